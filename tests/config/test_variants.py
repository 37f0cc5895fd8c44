"""Configurations that were composed together equal those that Hydra composes one by one."""

import random
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from densenet_cli.config.compose import compose, composing, resolved
from densenet_cli.config.variants import Variants

FEW = [  # one for each way of composing
    ["experiment=quickstart", "model.growth_rate=4", "recipe.optimizer.lr=0.05", "seed=3"],
    ["recipe=paper_cifar", "data.augment=false"],  # dropout is computed from the data's augmentation
    ["model=resnet_20", "recipe=resnet", "++trainer.limit_train_batches=3"],
    ["seed=5", "~recipe.optimizer.momentum", "recipe.optimizer._target_=torch.optim.AdamW"],
    ["+trainer.limit_val_batches=1.0", "recipe.schedule.fractions=[0.1,0.2]", "seed=1", "seed=2"],
    ["recipe.optimizer={_target_: torch.optim.AdamW, betas: [0.8, 0.9]}"],  # merged, and then refused
    ["~logger", "model={growth_rate: 7}", "model.growth_rate=${model.depth}"],
    ["model.growht_rate=3"],
]
MORE = [
    ["model.growth_rate=8", "model=densenet", "model.depth=22"],  # a choice typed last
    ["model=densenet_bc", "recipe=one_cycle", "data=cifar100", "epochs=7", "recipe.epochs=9"],
    ["model.dropout=0.3", "recipe.dropout=0.1"],
    ["recipe.dropout=null", "+model.dropout=0.3"],  # + is allowed where the value is null
    ["recipe.dropout=0.2", "+model.dropout=0.3"],  # and here it is not
    ["++model.dropout=0.3", "+model.dropout=0.3"],
    ["recipe.optimizer.lr=1", "~recipe.optimizer.lr", "+recipe.optimizer.lr=2"],
    ["~recipe.optimizer.lr=0.1", "recipe.optimizer.momentum=0"],
    ["~recipe.optimizer.lr=0.3"],  # is not its value
    ["~recipe.optimizer"],
    ["~model.nothing"],
    ["recipe.optimizer.lr=1", "~recipe.optimizer.momentum", "seed=3", "+recipe.optimizer.momentum=0"],
    ["~trainer.cuda_graphs", "~trainer.implementation=auto", "epochs=2"],
    ["~checkpoint"],  # is null
    ["~checkpoint=null"],
    ["~recipe.schedule", "+recipe.schedule._target_=torch.optim.lr_scheduler.ConstantLR"],
    ["model.block_config=[1,2]", "~model.block_config.0"],
    ["recipe.dropout=null", "~model.dropout"],
    ["~model.dropout.x"],
    ["~model"],
    ["~trainer", "+trainer=gpu"],
    ["model=null"],
    ["model=7"],
    ["model=[densenet,densenet_bc]"],
    ["model=history/lenet_5", "data=svhn", "recipe=paper_svhn"],
    ["model@recipe.mine=densenet"],
    ["+model@model.inner=resnet_20"],
    ["model/history=lenet_5"],
    ["seed=1,2"],
    ["seed="],
    ["seed"],
    ["seed='3'", 'data.root="a b"', "checkpoint=null"],
    ["recipe.gradient_clip=1e-3", "recipe.ema_decay=.999", "data.augment=False"],
    ["data.root=${oc.env:HOME}", "data.seed=${seed}", "seed=4"],
    ["data.root=${oc.env:SURELY_NOT_SET}"],
    ["data.root=\\${seed}", "model.growth_rate=${nothing}"],
    ["epochs=${recipe.batch_size}", "recipe.batch_size=${data.batch_size}"],  # a circle
    ["+mine.k=3", "model.growth_rate=${mine.k}", "++mine.k=4"],
    ["+mine.k=3"],
    ["model.block_config=[1,2,3]", "model.block_config=[4]"],
    ["model.block_config.0=5"],
    ["model.block_config=[1,2]", "model.block_config.0=5", "model.block_config.7=5"],
    ["recipe.schedule={divisor: 5}", "recipe.schedule.divisor.x=5"],
    ["model.growth_rate.deeper=5"],
    ["model.growth_rate=[1,{a: 2}]"],
    ["+a/b=1"],
    ["++model=densenet"],
    ["next_steps=[]", "next_steps=[one,two]"],
    ["hydra.run.dir=x", "seed=2"],
    ["hydra.job.name=x", "+model.dropout=${hydra.job.name}"],
    ["seed=2", "+hydra.mine=1", "epochs=3"],
    ["resume=x", "sweep.name=y", "seeds=3", "plan=true"],
    ["experiment=finetune_folder", "data.root=photos", "pretrained.layer_decay=1"],
    ["experiment=[quickstart,finetune_folder]", "epochs=3"],
    ["trainer=ddp_cpu", "trainer.devices=4"],
    ["trainer=slurm", "trainer.num_nodes=${slurm_nodes:}"],
    ["logger=tensorboard", "+logger.prefix=x"],
    ["recipe=one_cycle", "recipe.schedule.max_lr=3", "recipe.optimizer.lr=2"],
    ["recipe.optimizer._target_=torch.optim.Adam", "~recipe.optimizer.nesterov"],
    ["seed=${seeds}", "seeds=3"],
    ["model.growth_rate=choice(4,6)"],
    ["model.growth_rate=int(4.5)", "recipe.optimizer.lr=float(1)", "data.root=str(5)"],
]


def outcome(compose_one, words):
    """The configuration before and after its interpolations are resolved; or the error."""
    try:
        cfg = compose_one(list(words))
    except Exception as error:
        return type(error), str(error)
    plain = OmegaConf.to_container(cfg, resolve=False)
    flags = OmegaConf.is_struct(cfg), OmegaConf.is_readonly(cfg)
    try:
        return plain, flags, resolved(cfg)
    except Exception as error:
        return plain, flags, type(error), str(error)


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_they_equal_those_of_hydra(seed):
    cases = FEW if seed == 0 else [*FEW, *MORE]
    with composing():
        variants = Variants()
        expected = [outcome(compose, words) for words in cases]
        for _ in range(2):  # none changes what the next one begins with
            found = [outcome(variants.compose, words) for words in cases]
            for words, one, other in zip(cases, found, expected, strict=True):
                assert one == other, words


@pytest.mark.slow
def test_any_mixture_of_overrides_equals_hydras():
    choose = random.Random(0)
    words = sorted({word for case in [*FEW, *MORE] for word in case})
    made = 0
    with composing():
        variants = Variants()
        for _ in range(300):
            mixture = choose.choices(words, k=choose.randint(2, 4))
            expected = outcome(compose, mixture)
            assert outcome(variants.compose, mixture) == expected, mixture
            made += len(expected) == 3
    assert made > 30


def test_choices_of_ones_own_are_choices(tmp_path):
    for name, text in {
        "model/mine": "defaults: [densenet_bc, _self_]\ngrowth_rate: 5",
        "extra/one": "# @package _global_\nepochs: 3",
        "experiment/own": "# @package _global_\ndefaults: [override /model: mine]\nseed: 8",
    }.items():
        (file := tmp_path / "own" / f"{name}.yaml").parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    cases = [
        ["model=mine", "model.depth=22", "seed=1"],
        ["experiment=own", "+extra=one", "model.depth=28"],
        ["epochs=5", "+extra=one"],
    ]
    with composing(str(Path("own"))) as own:
        variants = Variants()
        for words in cases:
            assert outcome(variants.compose, [*own, *words]) == outcome(compose, [*own, *words]), words
        assert resolved(variants.compose([*own, *cases[1]]))["model"]["growth_rate"] == 5


def test_the_files_are_merged_once_for_each_combination_of_choices(monkeypatch):
    merged = []
    monkeypatch.setattr(
        "densenet_cli.config.variants.compose",
        lambda words: merged.append(words) or compose(words),
    )
    with composing():
        variants = Variants()
        for seed in range(5):
            for model in ("densenet_bc", "resnet_20"):
                words = [f"model={model}", f"seed={seed}", "+trainer.max_steps=2", "~next_steps"]
                assert variants.compose(words).seed == seed
    assert merged == [["model=densenet_bc"], ["model=resnet_20"]]
