"""The overrides of runs that take a second; each test adds its own."""

TINY = [
    "experiment=quickstart",
    "model.depth=10",
    "model.growth_rate=4",
    "epochs=2",
    "trainer=cpu",
    "next_steps=[]",
]

TINY_PHOTOS = [  # images in the folder that the fixture `photos` creates
    "data=image_folder",
    "data.root=photos",
    "data.image_size=16",
    "data.batch_size=4",
    "data.num_workers=2",
    "model=densenet_bc",
    "model.depth=10",
    "model.growth_rate=4",
    "recipe=paper_cifar",
    "trainer=cpu",
    "next_steps=[]",
]
