"""From a recipe to a method with fresh weights."""

import dataclasses
from typing import cast

import torch
from torch import nn

from squint.compression import CEB, Bottleneck, Open
from squint.configs import (
    BYOLConfig,
    CEBConfig,
    HeadConfig,
    MoCoConfig,
    MoCoV3Config,
    ProjectorConfig,
    SimCLRConfig,
)
from squint.errors import RecipeError
from squint.methods._method import Method
from squint.methods.byol import BYOL
from squint.methods.moco import MoCo
from squint.methods.mocov3 import MoCoV3
from squint.methods.simclr import SimCLR
from squint.nn import Encoder, Queue, Target, encoders, heads
from squint.nn.norm import group_batch_norm
from squint.ops import vmf
from squint.recipe import Recipe


def build(recipe: Recipe, *, images: int | None = None) -> Method:
    """The recipe's method with fresh weights, on the CPU, drawn from torch's default generator.

    Args:
        recipe: any.
        images: number of images in an epoch, to count the steps over which beta rises; without it
            beta rises over the same share of the epochs, which differs by rounding only.

    Raises:
        RecipeError: a part of the recipe can't be built.
    """
    bottleneck = _bottleneck(recipe, images)
    match recipe.method:
        case SimCLRConfig() as config:
            return _simclr(config, recipe, bottleneck)
        case MoCoConfig() as config:
            return _moco(config, recipe, bottleneck)
        case MoCoV3Config() as config:
            return _moco_v3(config, recipe, bottleneck)
        case BYOLConfig() as config:
            return _byol(config, recipe, bottleneck)


def _simclr(config: SimCLRConfig, recipe: Recipe, bottleneck: Bottleneck) -> SimCLR:
    encoder, projector = _online(recipe)
    return SimCLR(
        encoder,
        projector,
        temperature=config.temperature,
        directions=config.directions,
        bottleneck=bottleneck,
    )


def _moco(config: MoCoConfig, recipe: Recipe, bottleneck: Bottleneck) -> MoCo:
    encoder, projector = _online(recipe)
    grouped = config.norm_groups > 1
    if grouped:
        both = group_batch_norm(nn.Sequential(encoder, projector), config.norm_groups)
        encoder, projector = cast(nn.Sequential, both)
    return MoCo(
        encoder,
        projector,
        target=_copied_target(config, encoder, projector),
        queue=Queue(config.queue_size, config.projector.out_dim),
        temperature=config.temperature,
        symmetric=config.symmetric,
        shuffle=grouped,
        bottleneck=bottleneck,
    )


def _moco_v3(config: MoCoV3Config, recipe: Recipe, bottleneck: Bottleneck) -> MoCoV3:
    encoder, projector = _online(recipe)
    return MoCoV3(
        encoder,
        projector,
        _predictor(config, encoder),
        target=_copied_target(config, encoder, projector),
        temperature=config.temperature,
        bottleneck=bottleneck,
    )


def _byol(config: BYOLConfig, recipe: Recipe, bottleneck: Bottleneck) -> BYOL:
    encoder, projector = _online(recipe)
    predictor = _predictor(config, encoder)
    # differs from BYOL's code, whose target carries a predictor that nothing reads
    if config.target_init == "copy":
        target = _copied_target(config, encoder, projector)
    else:
        target = Target(
            *_online(recipe), momentum=config.target_momentum, schedule=config.target_schedule
        )
    readout = backward_encoder = None
    # differs from the released code, which keeps both heads without price and noise too: there is
    # nothing to code then, and without them C-BYOL is BYOL to the bit
    if isinstance(bottleneck, CEB) and (bottleneck.beta > 0 or bottleneck.sampling):
        width = config.projector.out_dim
        readout = heads.mlp(width, width, width, layers=1, init=config.predictor.init)
        backward_encoder = _predictor(config, encoder)
    return BYOL(
        encoder,
        projector,
        predictor,
        target=target,
        kappa_d=config.kappa_d,
        bottleneck=bottleneck,
        readout=readout,
        backward_encoder=backward_encoder,
        backward_view=config.backward_view,
    )


def _copied_target(
    config: MoCoConfig | MoCoV3Config | BYOLConfig, encoder: nn.Module, projector: nn.Module
) -> Target:
    return Target.copy_of(
        encoder, projector, momentum=config.target_momentum, schedule=config.target_schedule
    )


def _predictor(config: MoCoV3Config | BYOLConfig, encoder: Encoder) -> nn.Module:
    """A new head of the predictor's form, from codes to codes."""
    width = config.projector.out_dim
    return _head(config.predictor, width, width, encoder.dim)


def _online(recipe: Recipe) -> tuple[Encoder, nn.Module]:
    """A new encoder and a new projector."""
    encoder = encoders.build(**dataclasses.asdict(recipe.encoder))
    if encoders.library_of(recipe.encoder.name) != "squint":
        _check_size(encoder, recipe)
    projector: ProjectorConfig = recipe.method.projector
    return encoder, _head(projector, encoder.dim, projector.out_dim, encoder.dim)


@torch.no_grad()
def _check_size(encoder: Encoder, recipe: Recipe) -> None:
    """Refuse views of a size that a library's network does not take."""
    name, size = recipe.encoder.name, recipe.views.size
    try:
        encoder.eval()(torch.zeros(1, recipe.encoder.in_channels, size, size))
    except Exception as error:  # each library has its own
        said = str(error).strip().partition("\n")[0]
        raise RecipeError(
            f"{name} does not take views of views.size={size} px ({said}). Give a --views.size "
            "that it takes, or another --encoder.name."
        ) from None
    finally:
        encoder.train()


def _head(config: HeadConfig, in_dim: int, out_dim: int, features: int) -> nn.Module:
    return heads.mlp(
        in_dim,
        features if config.hidden_dim == "features" else config.hidden_dim,
        out_dim,
        layers=config.layers,
        bias=config.bias,
        output_bias=config.output_bias,
        hidden_norm=config.hidden_norm,
        output_norm=config.output_norm,
        init=config.init,
    )


def _bottleneck(recipe: Recipe, images: int | None) -> Bottleneck:
    config = recipe.compression
    if not isinstance(config, CEBConfig):
        return Open()
    if config.target_rate_nats != "off":
        _check_reachable(config, config.target_rate_nats, recipe.method.projector.out_dim)
    return CEB(
        beta=config.beta,
        kappa_e=config.kappa_e,
        kappa_b=config.kappa_b,
        sampling=config.sampling,
        residual=config.residual,
        beta_schedule=config.beta_schedule,
        beta_warmup=recipe.beta_warmup(images),
        target_rate_nats=config.target_rate_nats,
        kappa_e_range=config.kappa_e_range,
        dim=recipe.method.projector.out_dim,
    )


def _check_reachable(config: CEBConfig, target: float, dim: int) -> None:
    """Refuse a target that no price can hold: outside the rates of equal and of unrelated codes."""
    least = most = config.kappa_e
    if config.kappa_e_range != "off":
        low, most = config.kappa_e_range
        least = min(max(low, config.kappa_b), most)  # equal laws cost nothing
    poles = torch.eye(dim, dtype=torch.float64)[:2]  # (2, d)
    same = float(vmf.kl(poles[:1], least, poles[:1], config.kappa_b))
    unrelated = float(vmf.kl(poles[:1], most, poles[1:], config.kappa_b))
    if not same < target < unrelated:
        raise RecipeError(
            f"compression.target_rate_nats={target:g} can't be held: with {dim} dimensions, "
            f"kappa_e={config.kappa_e:g} (kappa_e_range {config.kappa_e_range}) and kappa_b="
            f"{config.kappa_b:g} the rate is from {same:.2f} nats, for equal codes, to "
            f"{unrelated:.2f}, for unrelated ones. Give a number between."
        )
