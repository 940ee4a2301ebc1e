"""The fixtures that other tests stand on."""

import subprocess
import tarfile
from pathlib import Path

import pytest
from django.conf import settings


def test_tests_stay_out_of_the_projects_data_folder() -> None:
    from v2vweb.environment import PROJECT

    assert not settings.DATA_DIR.is_relative_to(PROJECT)
    assert not Path(settings.DATABASES["default"]["NAME"]).is_relative_to(PROJECT)


@pytest.mark.real
def test_the_ova_of_the_labs_guest_holds_what_its_manifest_says(guest_ova: Path, tmp_path: Path) -> None:
    with tarfile.open(guest_ova) as tar:
        assert tar.getnames() == ["web01.ovf", "web01.mf", "web01-disk1.vmdk"]
        tar.extractall(tmp_path, filter="data")
    subprocess.run(["sha256sum", "--check", "--strict", "web01.mf"], cwd=tmp_path, check=True)
    subprocess.run(["qemu-img", "check", "-f", "vmdk", "web01-disk1.vmdk"], cwd=tmp_path, check=True)
