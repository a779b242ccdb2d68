"""From a recipe to a method with fresh weights."""

import dataclasses
from typing import cast

import torch
from torch import nn

from squint.compression import CEB, Open
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
        images: number of images in an epoch, from which the steps follow over which beta rises;
            without it these are a share of the epochs, which is the same but for rounding.

    Raises:
        RecipeError: a part of the recipe can't be built.
    """
    encoder, projector = _online(recipe)
    bottleneck = _bottleneck(recipe, images)
    match recipe.method:
        case SimCLRConfig() as config:
            return SimCLR(
                encoder,
                projector,
                temperature=config.temperature,
                directions=config.directions,
                bottleneck=bottleneck,
            )
        case MoCoConfig() as config:
            return _moco(config, encoder, projector, bottleneck)
        case MoCoV3Config() as config:
            width = config.projector.out_dim
            return MoCoV3(
                encoder,
                projector,
                _head(config.predictor, width, width, encoder.dim),
                target=Target.copy_of(
                    encoder,
                    projector,
                    momentum=config.target_momentum,
                    schedule=config.target_schedule,
                ),
                temperature=config.temperature,
                bottleneck=bottleneck,
            )
        case BYOLConfig() as config:
            return _byol(config, encoder, projector, bottleneck, recipe)


def _moco(
    config: MoCoConfig, encoder: nn.Module, projector: nn.Module, bottleneck: Open | CEB
) -> MoCo:
    apart = config.norm_groups > 1
    if apart:
        both = group_batch_norm(nn.Sequential(encoder, projector), config.norm_groups)
        encoder, projector = cast(nn.Sequential, both)
    return MoCo(
        encoder,
        projector,
        target=Target.copy_of(
            encoder, projector, momentum=config.target_momentum, schedule=config.target_schedule
        ),
        queue=Queue(config.queue_size, config.projector.out_dim),
        temperature=config.temperature,
        symmetric=config.symmetric,
        shuffle=apart,
        bottleneck=bottleneck,
    )


def _byol(
    config: BYOLConfig,
    encoder: Encoder,
    projector: nn.Module,
    bottleneck: Open | CEB,
    recipe: Recipe,
) -> BYOL:
    width, momentum, schedule = (
        config.projector.out_dim,
        config.target_momentum,
        config.target_schedule,
    )
    predictor = _head(config.predictor, width, width, encoder.dim)
    # differs from BYOL's code, whose target carries a predictor that nothing reads
    if config.target_init == "copy":
        target = Target.copy_of(encoder, projector, momentum=momentum, schedule=schedule)
    else:
        target = Target(*_online(recipe), momentum=momentum, schedule=schedule)
    compressed = isinstance(bottleneck, CEB) and (bottleneck.beta > 0 or bottleneck.sampling)
    return BYOL(
        encoder,
        projector,
        predictor,
        target=target,
        kappa_d=config.kappa_d,
        bottleneck=bottleneck,
        # differs from the released code, which keeps both heads without price and noise too: there
        # is nothing to code then, and without them C-BYOL is BYOL to the bit
        readout=heads.mlp(width, width, width, layers=1, init=config.predictor.init)
        if compressed
        else None,
        backward_encoder=_head(config.predictor, width, width, encoder.dim) if compressed else None,
        backward_view=config.backward_view,
    )


def _online(recipe: Recipe) -> tuple[Encoder, nn.Module]:
    """Encoder and projector."""
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


def _bottleneck(recipe: Recipe, images: int | None) -> Open | CEB:
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
    """Refuse a rate that no price can hold: below that of equal codes, or above unrelated ones'."""
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
