"""Create a bucket where it is missing: `python -m mlflow_server.bucket NAME`."""

import os
import sys


def make_bucket(name: str) -> bool:
    """Create a bucket on the store that `MLFLOW_S3_ENDPOINT_URL` names; returns True if it was missing."""
    import boto3
    from botocore.exceptions import ClientError

    client = boto3.client("s3", endpoint_url=os.environ.get("MLFLOW_S3_ENDPOINT_URL"))
    try:
        client.head_bucket(Bucket=name)
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
            raise  # refused, or a store that fails: a new bucket would not help
        client.create_bucket(Bucket=name)
        return True
    return False


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m mlflow_server.bucket NAME")
    make_bucket(sys.argv[1])
