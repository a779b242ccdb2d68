"""BYOL and C-BYOL against the released losses."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from golden import Case, cases
from squint.compression import CEB
from squint.methods import BYOL
from squint.methods._method import unit
from squint.nn import Target
from squint.ops import vmf
from toys import make, views


def _is_ceb(case: Case) -> bool:
    return case.name.startswith("ceb")


class Released:
    """A file's six inputs, and a C-BYOL that computes on them alone."""

    def __init__(self, case: Case, **bottleneck: str) -> None:
        made, n, d = case.settings, case.settings["batch"], case.settings["dim"]
        leaves = {
            "p1": case["hidden"][:n],
            "k2": case["hidden"][n:],
            "p2": case["hidden2"][:n],
            "k1": case["hidden2"][n:],
            "m2": case["target_proj_output"],  # the file counts views by the regression target
            "m1": case["target_proj_output2"],
            "z1": case["z_mu"][:, :d],
            "mu1": case["z_mu"][:, d:],
            "z2": case["z_mu2"][:, :d],
            "mu2": case["z_mu2"][:, d:],
        }
        self.leaves = {name: value.clone().requires_grad_() for name, value in leaves.items()}
        ceb = CEB(beta=made["beta"], kappa_e=made["kappa_e"], kappa_b=made["kappa_b"], **bottleneck)
        drawn = iter([self.leaves["z1"], self.leaves["z2"]])
        ceb._draw = lambda h: next(drawn)
        predicted = iter([self.leaves["p1"], self.leaves["p2"]])
        self.method = BYOL(
            nn.Identity(),
            nn.Identity(),
            nn.Identity(),
            target=Target(nn.Identity(), nn.Identity(), momentum=0.9),
            kappa_d=2.0 * made["weight"],
            bottleneck=ceb,
            readout=Readout(predicted),
        )

    def loss(self) -> Tensor:
        units = {name: unit(self.leaves[name]) for name in ("k1", "k2", "m1", "m2")}
        codes = self.leaves["mu1"], self.leaves["mu2"], *units.values()
        self.step = self.method.compare(codes)
        return self.step.loss


class Readout(nn.Module):
    """Gives the file's predictions, whatever it is asked."""

    def __init__(self, predicted) -> None:
        super().__init__()
        self.predicted = predicted

    def forward(self, z: Tensor) -> Tensor:
        return next(self.predicted)


@pytest.mark.parametrize("case", cases("cvr_byol", _is_ceb))
def test_c_byol_is_the_released_loss_with_the_same_view(case: Case) -> None:
    released = Released(case, residual="sampled")
    d = case.settings["dim"]
    single = case.settings["dtype"] == "float32"
    tolerance = {"rtol": 1e-5, "atol": 1e-6} if single else {"rtol": 1e-9, "atol": 1e-11}
    loss = released.loss()
    torch.testing.assert_close(loss, case["loss"], rtol=tolerance["rtol"], atol=0)
    regression = 2 - 2 * F.cosine_similarity(released.leaves["p1"], released.leaves["k2"])
    torch.testing.assert_close(regression.mean(), case["metric_byol_loss"], rtol=1e-4, atol=1e-6)
    loss.backward()
    gradient = {name: leaf.grad for name, leaf in released.leaves.items()}
    for ours, theirs in (
        (torch.cat([gradient["p1"], gradient["k2"]]), "grad_hidden"),
        (torch.cat([gradient["p2"], gradient["k1"]]), "grad_hidden2"),
        (gradient["m2"], "grad_target_proj_output"),
        (gradient["m1"], "grad_target_proj_output2"),
    ):
        torch.testing.assert_close(ours, case[theirs], **tolerance)
    beta, kappa_e = case.settings["beta"], case.settings["kappa_e"]
    for z, mu, both in (("z1", "mu1", "grad_z_mu"), ("z2", "mu2", "grad_z_mu2")):
        # theirs adds that of log e(z|x), which ours leaves out: in the composed model it is none
        place, mean = (released.leaves[name].detach().requires_grad_() for name in (z, mu))
        log_e = beta * vmf.log_prob(place, mean, kappa_e).mean()
        by_place, by_mean = torch.autograd.grad(log_e, (place, mean))
        noise = {"rtol": 1e-5, "atol": 1e-7 * kappa_e} if single else tolerance
        torch.testing.assert_close(gradient[z] + by_place, case[both][:, :d], **noise)
        torch.testing.assert_close(by_mean, case[both][:, d:], **noise)
        assert gradient[mu] is None


@pytest.mark.parametrize("case", cases("cvr_byol", _is_ceb))
def test_the_other_view_is_another_loss(case: Case) -> None:
    """The published text; on the file's inputs b(z1|y) then sees m2, and b(z2|y) sees m1."""
    same, other = Released(case, residual="sampled"), Released(case, residual="sampled")
    other.method.backward_view = "other"
    swap = Released(case, residual="sampled")
    swap.leaves["m1"], swap.leaves["m2"] = swap.leaves["m2"], swap.leaves["m1"]
    torch.testing.assert_close(other.loss(), swap.loss())
    assert not torch.isclose(other.step.loss, same.loss(), rtol=1e-6)


def test_byol_is_four_minus_both_cosines() -> None:
    method, (x1, x2) = make("byol"), views()
    q1, q2 = (method.predictor(method.projector(method.encoder(x))) for x in (x1, x2))
    k1, k2 = method.target(x1), method.target(x2)
    expected = 4 - 2 * F.cosine_similarity(q1, k2) - 2 * F.cosine_similarity(q2, k1)
    torch.testing.assert_close(method((x1, x2)).loss, expected.mean())


def test_the_regression_weighs_half_of_kappa_d() -> None:
    loss, weighted = make("byol")(views()).loss, make("byol", kappa_d=10.0)(views()).loss
    torch.testing.assert_close(weighted, 5 * loss)


def test_the_rate_trains_the_backward_encoder_and_never_the_target() -> None:
    method = make("byol", CEB(beta=1.0, kappa_e=64.0, kappa_b=4.0))
    method(views()).loss.backward()
    assert method.backward_encoder.weight.grad.abs().sum() > 0
    assert method.readout.weight.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in method.target.parameters())


@pytest.mark.parametrize("view", ["same", "other"])
def test_pairs_follow_backward_view(view: str) -> None:
    method = make("byol", CEB(beta=1.0, kappa_e=64.0, kappa_b=4.0), backward_view=view)
    codes = method.embed(views())
    (_, given1), (_, given2) = method.pairs(codes)
    b1, b2 = codes[4:]
    assert (given1 is b1 and given2 is b2) == (view == "same")
    assert (given1 is b2 and given2 is b1) == (view == "other")
