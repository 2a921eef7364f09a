"""Passes a run's metrics to an experiment tracker. Reads lines of JSON: what the run is, then its rows."""

import json
import os
import signal
import sys

# Ctrl-C is for the run, which ends this program by closing its input.
signal.signal(signal.SIGINT, signal.SIG_IGN)
answer = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)


def wandb(run):
    import wandb

    project = os.environ.get("WANDB_PROJECT", "collimate")
    wandb.init(project=project, name=run["name"], id=run["id"], resume="allow", config=run["recipe"])
    return lambda step, figures: wandb.log({**figures, "step": step}), wandb.finish


def mlflow(run):
    import mlflow

    mlflow.set_experiment(os.environ.get("MLFLOW_EXPERIMENT_NAME", "collimate"))
    found = mlflow.search_runs(filter_string=f"tags.collimate_run = '{run['id']}'", output_format="list")
    if found:
        mlflow.start_run(run_id=found[0].info.run_id)
    else:
        mlflow.start_run(run_name=run["name"], tags={"collimate_run": run["id"]})
        mlflow.log_params({key: str(value)[:500] for key, value in run["recipe"].items()})
    return lambda step, figures: mlflow.log_metrics(figures, step=step), mlflow.end_run


def trackio(run):
    import trackio

    project = os.environ.get("TRACKIO_PROJECT", "collimate")
    trackio.init(project=project, name=run["id"], config=run["recipe"], resume="allow")
    return lambda step, figures: trackio.log(figures, step=step), trackio.finish


def renamed(row):
    """Figures under transformers' names: train/loss, eval/loss."""
    named = {}
    for name, value in row.items():
        if name != "step" and value is not None:
            is_held_out = name.startswith("eval_")
            named["eval/" + name[5:] if is_held_out else "train/" + name] = value
    return named


try:
    log, finish = {"wandb": wandb, "mlflow": mlflow, "trackio": trackio}[sys.argv[1]](json.loads(sys.stdin.readline()))
except BaseException as error:
    print(f"collimate: {type(error).__name__}: {error}".replace("\n", " "), file=answer, flush=True)
    sys.exit(1)
print("collimate: ready", file=answer, flush=True)
for line in sys.stdin:
    row = json.loads(line)
    log(int(row.get("step", 0)), renamed(row))
finish()
