"""A bundle is also MONAI's: its own configuration parser builds and runs it."""

from __future__ import annotations

from pathlib import Path

from standins.tiny_bundle import write_tiny_bundle


def test_monai_builds_network_and_inferer(tmp_path: Path) -> None:
    import torch
    from monai.bundle import ConfigParser

    bundle = write_tiny_bundle(tmp_path / "tiny")
    parser = ConfigParser()
    parser.read_config(str(bundle.folder / "configs" / "inference.json"))
    parser.read_meta(str(bundle.folder / "configs" / "metadata.json"))
    parser["bundle_root"] = str(bundle.folder)
    network, inferer = parser.get_parsed_content("network"), parser.get_parsed_content("inferer")
    device = parser.get_parsed_content("device")
    image = torch.rand(1, 1, 20, 18, 16, generator=torch.Generator().manual_seed(0)).to(device)
    with torch.no_grad():
        superclass, leaves = inferer(image, network)
    channels = bundle.metadata["network_data_format"]["outputs"]["pred"]["num_channels"]
    assert leaves.shape == (1, channels, 20, 18, 16)
    assert superclass.shape[1] == len(bundle.tree.top_level)
    assert not network.training


def test_monai_runs_the_bundle_on_a_scan(tmp_path: Path) -> None:
    import nibabel
    import numpy as np
    from monai.bundle import run as monai_run

    bundle = write_tiny_bundle(tmp_path / "tiny")
    scan = np.random.default_rng(0).random((16, 16, 16)).astype(np.float32)
    nibabel.Nifti1Image(scan, np.eye(4)).to_filename(tmp_path / "scan.nii.gz")
    monai_run(
        config_file=str(bundle.folder / "configs" / "inference.json"),
        bundle_root=str(bundle.folder),
        images=[str(tmp_path / "scan.nii.gz")],
        output_dir=str(tmp_path / "out"),
    )
    labels = np.asarray(nibabel.load(tmp_path / "out" / "scan_labels.nii.gz").dataobj)
    assert labels.shape == scan.shape
    bundle.tree.check_values(labels, "scan_labels.nii.gz")
