#!/usr/bin/env bash
# Trains on two nodes of a Slurm cluster that see the same folder; started again, it goes on where it was, also
# with another number of nodes:
#   sbatch examples/train_slurm.sh my_joint.yaml
#SBATCH --job-name=wavellama
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=8
#SBATCH --requeue
set -euo pipefail
recipe=${1:?a recipe}

# One task for each GPU; fairseq2 takes ranks and addresses from Slurm.
srun .venv/bin/wavellama recipe asr train "$recipe" --config trainer.data_parallelism=fsdp
