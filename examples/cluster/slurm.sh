#!/usr/bin/env bash
# Trains on two machines with four GPUs each: `sbatch examples/cluster/slurm.sh DATA RUN`. One rank for each
# machine, which uses all of its GPUs; a job that Slurm ends early or starts again goes on where it was.
#SBATCH --job-name=polyview
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=32
#SBATCH --time=12:00:00
#SBATCH --signal=USR1@120
#SBATCH --requeue
set -euo pipefail

data="$1"
run="$2"
# --mpi=pmix is for Open MPI; `srun --mpi=list` shows what this cluster has. MPICH goes with --mpi=pmi2.
# --kill-on-bad-exit: a rank that is killed ends the others at once, not after --rank-timeout.
exec srun --mpi=pmix --kill-on-bad-exit=1 polyview train \
    --dataset-root "$data" --save-dir "$run" --resume auto \
    --device all --batch-size 16 --num-workers 16
