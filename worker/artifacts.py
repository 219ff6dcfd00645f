"""Where the files of a job lie in storage."""


def artifact_folder(job_id: str) -> str:
    """What a job shows while it runs and keeps when it ends: sample sheets, metrics."""
    return f"jobs/artifacts/{job_id}"


def artifact_key(job_id: str, name: str) -> str:
    """One of these files."""
    return f"{artifact_folder(job_id)}/{name}"


SCRATCH = "jobs/scratch"


def scratch_folder(job_id: str) -> str:
    """What a job needs until it ends, and nobody afterwards."""
    return f"{SCRATCH}/{job_id}"


def checkpoint_folder(job_id: str) -> str:
    """The training states that another attempt may go on from."""
    return f"{scratch_folder(job_id)}/checkpoints"


def search_folder(job_id: str) -> str:
    """What the processes of a search share."""
    return f"{scratch_folder(job_id)}/search"


# By suffix, of the files of jobs and model versions. TensorBoard's have none that is a type.
MEDIA_TYPES = {
    "png": "image/png",
    "jpeg": "image/jpeg",
    "webp": "image/webp",
    "avif": "image/avif",
    "json": "application/json",
    "jsonl": "application/x-ndjson",
    "vitrine": "application/octet-stream",
}
FILE_NAME = r"^[a-z0-9][a-z0-9.-]{0,80}\.(png|jpeg|webp|avif|json|jsonl|vitrine)$"


def media_type(name: str) -> str:
    """Of a file called `name`, which matches FILE_NAME."""
    return MEDIA_TYPES[name.rsplit(".", 1)[-1]]
