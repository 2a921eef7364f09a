#!/usr/bin/env bash
# Four nodes with eight GPUs each: sbatch slurm.sh recipe.yaml. Build once before, on a login node with MPI and libclang:
#   cargo build --release --package collimate --features mpi,cuda
#SBATCH --job-name=collimate
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=TERM@120
set -euo pipefail

recipe=${1:?usage: sbatch slurm.sh recipe.yaml}
run=${RUN:-runs/$SLURM_JOB_NAME}
program=${COLLIMATE:-target/release/collimate}

# A job that was requeued goes on where it stopped.
resume=()
if [ -e "$run/metrics.jsonl" ]; then
    resume=(--resume)
fi

# The program must be linked with an MPI that this Slurm can start: `srun --mpi=list` says which it knows.
exec srun --mpi=pmix --kill-on-bad-exit=1 "$program" train "$recipe" --backend cuda --output "$run" "${resume[@]}"
