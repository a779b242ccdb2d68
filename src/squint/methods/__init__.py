"""Methods: one algorithm box per file, and `build` to make one from a recipe."""

from squint.compression import CEB, Open
from squint.configs import CEBConfig
from squint.methods._method import Method, Step
from squint.methods.simclr import SimCLR
from squint.nn import encoders, heads
from squint.recipe import Recipe

__all__ = ["Method", "SimCLR", "Step", "build"]


def build(recipe: Recipe) -> Method:
    """The recipe's method with fresh weights, on the CPU, drawn from torch's default generator."""
    config = recipe.method
    encoder = encoders.build(
        recipe.encoder.name,
        stem=recipe.encoder.stem,
        width=recipe.encoder.width,
        in_channels=recipe.encoder.in_channels,
    )
    projector = heads.mlp(
        encoder.dim,
        encoder.dim if config.projector.hidden_dim == "features" else config.projector.hidden_dim,
        config.projector.out_dim,
        layers=config.projector.layers,
        output_norm=config.projector.output_norm,
        init=config.projector.init,
    )
    return SimCLR(
        encoder, projector, temperature=config.temperature, bottleneck=_bottleneck(recipe)
    )


def _bottleneck(recipe: Recipe) -> Open | CEB:
    config = recipe.compression
    if not isinstance(config, CEBConfig):
        return Open()
    return CEB(
        beta=config.beta,
        kappa_e=config.kappa_e,
        kappa_b=config.kappa_b,
        sampling=config.sampling,
        residual=config.residual,
        beta_schedule=config.beta_schedule,
        beta_warmup=recipe.beta_warmup,
    )
