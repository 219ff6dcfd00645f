"""Where the files of a job lie in storage."""


def artifact_folder(job_id: str) -> str:
    """What a job shows while it runs and keeps when it ends: sample sheets, metrics."""
    return f"jobs/artifacts/{job_id}"


def artifact_key(job_id: str, name: str) -> str:
    """One of these files."""
    return f"{artifact_folder(job_id)}/{name}"


def checkpoint_key(job_id: str) -> str:
    """The newest training state; deleted when the job has succeeded."""
    return f"jobs/checkpoints/{job_id}/state.safetensors"
