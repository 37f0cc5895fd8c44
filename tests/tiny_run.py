"""The words of a run that takes a second; each test adds what it is about."""

TINY = [
    "experiment=quickstart",
    "model.depth=10",
    "model.growth_rate=4",
    "epochs=2",
    "trainer=cpu",
    "next_steps=[]",
]
