"""``deeprelax flatness``."""

from __future__ import annotations

import json

import click

from deeprelax.cli.root import main


@main.command(context_settings={"show_default": True})
@click.argument("run_dir")
@click.option("--gamma", type=float, default=1.0, help="Smoothing time of the local entropy.")
@click.option("--beta", type=float, default=1e4, help="Inverse temperature; a flat direction is seen over sqrt(γ/β).")
@click.option("--steps", type=int, default=20, help="Sampling steps up, inside and down; the bias falls like 1/steps.")
@click.option("--chains", type=int, default=4, help="Independent chains; standard errors come from their spread.")
@click.option("--probes", type=int, default=16, help="Random vectors of the trace.")
@click.option("--samples", type=int, default=256, help="Training samples the loss is taken over.")
@click.option("--batch", type=int, default=256, help="Samples computed at once, to save memory.")
@click.option("--seed", type=int, default=0, help="Seed of the samples and of all noise.")
@click.option("--json", "as_json", is_flag=True, help="Print the numbers as one JSON object on standard output.")
def flatness(run_dir: str, as_json: bool, **fields: float) -> None:
    """Measure how flat the training loss is around the center of the finished run in RUN_DIR.

    \b
    flat/loss             f(x), the mean training loss at the center
    flat/local_entropy    f smoothed over sqrt(γ/β) by the Gibbs measure: close to flat/loss, or below, in a wide valley
    flat/hysteresis       bound of its bias; give more --steps if it is not small
    flat/gradient_norm    norm of the local entropy's gradient, |<∇f(y)>|
    flat/top_eigenvalue   largest curvature of f
    flat/trace            sum of all curvatures
    flat/acceptance       part of the sampler's proposals taken; near 0 the smoothed numbers mean nothing

    …_stderr is the standard error of chance. Compare runs at equal options and equal flat/loss only: cross-entropy
    flattens as it falls. With the defaults these are the numbers of 'deeprelax fit --flatness end'.
    """
    import torch

    from deeprelax.execution.result import load_result
    from deeprelax.flatness import FlatnessConfig, measure
    from deeprelax.registry import find

    config = FlatnessConfig(**fields)  # type: ignore[arg-type] # click has made the whole numbers int
    result = load_result(run_dir)
    task = result.config.judged(find(result.config.trainable).build(result.config.trainable_config))
    torch.set_num_threads(result.config.threads or torch.get_num_threads())  # as in the run: the same bits
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    numbers = measure(result.load_into(task.model()).to(device), task, config).metrics()
    if as_json:
        click.echo(json.dumps(numbers))
    else:
        for name, value in numbers.items():
            click.echo(f"{name:<28} {value:.6g}")
