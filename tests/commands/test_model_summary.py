"""densenet-model summary."""


def test_summary_counts_like_the_records(densenet_model):
    status, out, _ = densenet_model(
        "summary", "model=densenet_bc", "model.depth=22", "model.growth_rate=12"
    )
    assert status == 0
    assert "71,686 parameters" in out  # facts: DenseNet-BC (22, 12)
    assert "31,238,322 multiply-adds" in out
    rows = {line.split()[0]: line for line in out.splitlines() if line.strip()}
    assert "24 x 32 x 32" in rows["conv0"]
    assert f"{3 * 24 * 9:,}" in rows["conv0"]
    assert f"{3 * 24 * 9 * 32 * 32:,}" in rows["conv0"]
    assert {"network", "denseblock1", "transition2", "norm5", "classifier"} <= rows.keys()
