"""Light lines for those who wait long: `progress: {remarks: true}`."""

REMARKS = (
    "the weights are in the post",
    "somebody is warming up the matrix",
    "all layers are present, a few are still yawning",
    "good models come to those who wait",
    "the GPU says it was just about to",
    "moving furniture: one large tensor at a time",
    "the previous tenant is returning the keys",
    "no tokens were harmed so far",
    "a watched bar does fill, only slowly",
    "still faster than training it yourself",
    "polishing the attention heads",
    "counting parameters; please do not interrupt",
)
