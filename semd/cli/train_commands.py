"""`semd train`: the scoring machine and the control machine."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from semd.cli.former_spellings import FormerSpellings
from semd.cli.output import JsonOption, print_json
from semd.errors import ConfigError

if TYPE_CHECKING:
    from semd.training.control.control_settings import ControlTrainingConfig
    from semd.training.control.control_training import ControlTrainingResult

train_app = typer.Typer(help="Train the scoring or the control machine.", no_args_is_help=True, cls=FormerSpellings)

PresetOption = Annotated[str, typer.Option(help="default, or paper: the published values.")]
RunOption = Annotated[Path, typer.Option("--run", help="Directory of checkpoint, learning curve and weights.")]
SeedOption = Annotated[int | None, typer.Option(help="Default: the preset's.")]
ThreadsOption = Annotated[int, typer.Option(min=1, help="Threads of torch.")]
PromoteOption = Annotated[
    Path | None, typer.Option(help="A models folder: put the weights there and enter them in its manifest.")
]
WorkersOption = Annotated[int, typer.Option(min=1, help="Number of processes, without --address.")]
FramesOption = Annotated[int | None, typer.Option(min=1, help="Simulated frames in all.")]
ResumeOption = Annotated[bool, typer.Option("--resume", help="Continue from the checkpoint in --run.")]
AddressOption = Annotated[
    str | None,
    typer.Option(help="A running Ray cluster, auto or HOST:PORT, all of whose machines have semd and share --run."),
]


def register(app: typer.Typer) -> None:
    """Add these commands."""
    train_app.command("score")(score)
    train_app.command("control")(control)
    train_app.command("images")(images)
    train_app.command("records")(records)
    train_app.command("sweep")(sweep)
    app.add_typer(train_app, name="train")


def score(
    data: Annotated[
        list[Path], typer.Option(help="A dataset; `semd dataset build` makes one. Several are taken together.")
    ],
    run: RunOption,
    preset: Annotated[
        str,
        typer.Option(
            help="default; further: more epochs from --start; heads: no epochs, the heads and the spectrum's reader "
            "are trained further from --start; paper: the published values."
        ),
    ] = "default",
    start: Annotated[Path | None, typer.Option(help="Initial weights instead of random ones.")] = None,
    validation: Annotated[
        Path | None,
        typer.Option(help="Hold-out for validation and uncertainty, where --start was trained on fields of --data."),
    ] = None,
    seed: SeedOption = None,
    threads: ThreadsOption = 1,
    processes: Annotated[int, typer.Option(min=1, help="Processes that share each batch.")] = 2,
    network: Annotated[
        str, typer.Option(help="ours, or a baseline to compare with: resnet50, no-magnification.")
    ] = "ours",
    epochs_scale: Annotated[float, typer.Option(min=0.0, help="Factor on the number of epochs.")] = 1.0,
    rate_scale: Annotated[
        float, typer.Option(min=0.0, help="Factor on the learning rates; below 1 for weights close to convergence.")
    ] = 1.0,
    promote: PromoteOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Train the scoring machine; an interrupted run in the same folder is continued."""
    from semd.model_store import store_model
    from semd.training.score.config_variants import OURS, scale_epochs, scale_learning_rates, with_network
    from semd.training.score.score_settings import preset as scoring_preset
    from semd.training.score.score_training import train_scorer
    from semd.training.score.scorer_manifest_entry import scorer_entry

    if promote is not None and (network != OURS or epochs_scale != 1.0 or rate_scale != 1.0):
        raise ConfigError("--promote ships our network, trained as the preset says; leave out --network and the scales")
    config = with_network(scoring_preset(preset, seed if seed is not None else 0, threads), network)
    config = scale_learning_rates(scale_epochs(config, epochs_scale), rate_scale)
    if start is not None and not start.is_file():
        raise ConfigError(f"--start {start}: there is no such file")
    result = train_scorer(config, data, run, start=start, validation_dir=validation, processes=processes)
    if result.finished and promote is not None and result.weights is not None and result.report is not None:
        entry = scorer_entry(config, data, result.report, preset, processes, validation)
        store_model(promote, "scorer", result.weights.read_bytes(), entry)
    if as_json:
        print_json(
            {
                "finished": result.finished,
                "epochs": result.epochs,
                "report": result.report and asdict(result.report),
            }
        )
    raise typer.Exit(0 if result.finished else 1)


def control(
    run: RunOption,
    preset: PresetOption = "default",
    frames: FramesOption = None,
    seed: SeedOption = None,
    threads: ThreadsOption = 1,
    promote: PromoteOption = None,
    *,
    resume: ResumeOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train the control machine on the feature-level twin of the simulator (Algorithm 1)."""
    from semd.model_store import store_model
    from semd.training.control.actor_manifest_entry import actor_entry
    from semd.training.control.control_training import train_control
    from semd.training.control.twin_environment import make_evaluation, make_twin

    settings = _settings(preset, seed, threads, frames)
    result = train_control(settings, make_twin(settings), make_evaluation(settings), run, resume=resume)
    if promote is not None:
        store_model(promote, "actor", result.best_path.read_bytes(), actor_entry(settings, result, preset))
    _report_control(result, as_json=as_json)


def images(
    run: RunOption,
    preset: PresetOption = "default",
    frames: FramesOption = None,
    seed: SeedOption = None,
    threads: ThreadsOption = 1,
    promote: PromoteOption = None,
    workers: WorkersOption = 2,
    address: AddressOption = None,
    *,
    resume: ResumeOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train the control machine on rendered frames and the scoring machine, in workers (extra `ray`).

    The learning curve and the best weights are still chosen on the twin.
    """
    from semd.model_store import store_model
    from semd.training.control.actor_manifest_entry import actor_entry
    from semd.training.control.control_training import train_control
    from semd.training.control.ray_cluster import cluster
    from semd.training.control.rollouts import RemoteEnvironment, image_environments
    from semd.training.control.twin_environment import make_evaluation

    settings = _settings(preset, seed, threads, frames)
    with cluster(workers, address) as ray:
        remote = RemoteEnvironment(ray, image_environments(settings), settings.n_envs, workers)
        result = train_control(settings, remote, make_evaluation(settings), run, resume=resume)
    if promote is not None:
        entry = actor_entry(settings, result, preset)
        entry["training"] |= {
            "data": "rendered frames, semd.simulator.simulated_microscope, judged by the scoring machine"
        }
        entry["training"]["command"] += " --images"
        store_model(promote, "actor", result.best_path.read_bytes(), entry)
    _report_control(result, as_json=as_json)


def records(
    run: RunOption,
    from_records: Annotated[Path, typer.Option(help="State directory of the daemon that recorded the runs.")],
    preset: PresetOption = "default",
    frames: FramesOption = None,
    seed: SeedOption = None,
    threads: ThreadsOption = 1,
    promote: PromoteOption = None,
    records_share: Annotated[
        float, typer.Option(min=0.01, max=0.99, help="Share of recorded frames in each batch; the rest is simulated.")
    ] = 0.25,
    start: Annotated[Path | None, typer.Option(help="Actor to start from; default: the one in use.")] = None,
    config: Annotated[
        Path | None, typer.Option(help="The daemon's configuration; default: the defaults of semd.")
    ] = None,
    *,
    resume: ResumeOption = False,
    as_json: JsonOption = False,
) -> None:
    """Continue training the control machine on the runs that a daemon recorded, mixed with simulated ones.

    Nothing is promoted that became worse.
    """
    from semd.config import load_config
    from semd.control.policy import ActorPolicy
    from semd.model_store import default_directory, load_model, store_model
    from semd.training.control.learning_from_records import learn_from_records, records_config

    base = _settings(preset, seed, threads, None)
    if start is not None and not start.is_file():
        raise ConfigError(f"--start {start}: there is no such file")
    daemon = load_config(config) if config is not None else None
    models = (daemon.models.directory if daemon is not None else None) or default_directory()
    weights = start.read_bytes() if start is not None else load_model(models, "actor").data
    settings = records_config(base, ActorPolicy.load(weights), records_share, frames)
    learned = learn_from_records(settings, from_records, weights, run, daemon=daemon, resume=resume)
    promoted = promote is not None and not learned.became_worse
    if promote is not None and promoted:
        store_model(promote, "actor", learned.training.best_path.read_bytes(), learned.entry(preset))
    print(learned.as_text())
    if promote is not None and not promoted:
        print("nothing was promoted")
    if as_json:
        print_json({**learned.as_json(), "promoted": promoted})
    raise typer.Exit(0 if promote is None or promoted else 1)


def sweep(
    run: Annotated[Path, typer.Option("--run", help="Folder for sweep.csv and a run folder of each combination.")],
    seeds: Annotated[str, typer.Option(help="Comma separated.")] = "0,1,2",
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="NAME=VALUE,VALUE... of a training setting; may come several times."),
    ] = None,
    preset: PresetOption = "default",
    frames: Annotated[int | None, typer.Option(min=1, help="Simulated frames of each training.")] = None,
    workers: WorkersOption = 2,
    address: AddressOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Train the control machine for every combination of settings and seeds, as tasks of Ray (extra `ray`).

    Called again it skips what is finished and continues the rest. The figures
    are those of the best weights on the twin.
    """
    from semd.training.control.control_settings import PRESETS
    from semd.training.control.hyperparameter_sweep import train_sweep
    from semd.training.control.sweep_plan import plan_sweep

    if preset not in ("default", "paper"):
        raise ConfigError(f"preset {preset!r} is not known; there are default and paper")
    base = PRESETS["paper" if preset == "paper" else "default"]
    base = replace(base, max_frames=frames if frames is not None else base.max_frames)
    found = train_sweep(plan_sweep(base, seeds, settings or []), run, workers=workers, address=address)
    print(found.as_text())
    if as_json:
        print_json(found.as_json())
    raise typer.Exit(1 if found.failed else 0)


def _settings(preset: str, seed: int | None, threads: int, frames: int | None) -> ControlTrainingConfig:
    """Return the settings of a preset with what the options change."""
    from semd.training.control.control_settings import PRESETS

    if preset not in ("default", "paper"):
        raise ConfigError(f"preset {preset!r} is not known; there are default and paper")
    base = PRESETS["paper" if preset == "paper" else "default"]
    return replace(
        base,
        threads=threads,
        seed=seed if seed is not None else base.seed,
        max_frames=frames if frames is not None else base.max_frames,
    )


def _report_control(result: ControlTrainingResult, *, as_json: bool) -> None:
    print(result.stopwatch.as_text())
    if as_json:
        counts = {"frames": result.frames, "updates": result.updates, "seconds": result.stopwatch.seconds}
        print_json({**counts, **asdict(result.last)})
