"""A user and what was predicted of him, for people to read."""

import textwrap

from mmprofile import ProfileSchema
from prediction.inputs import User

SHOWN_CHARACTERS = 300  # of a review
UNBROKEN = "\u00a0"  # a blank at which no line is broken


def describe(user: User, row: dict, schema: ProfileSchema) -> str:
    """A user for people to read: reviews, photos, the profile predicted and the true one, and all probabilities."""
    lines = [f"user {user.user_id}"]
    for review in user.reviews:
        printable = review.encode(errors="replace").decode()  # of JSON's halves of characters
        text = textwrap.shorten(printable, SHOWN_CHARACTERS, placeholder=" ...")
        lines += textwrap.wrap(text, 112, initial_indent="  review     ", subsequent_indent=" " * 13)
    if row.get("image_weights"):
        seen = [f"{number} with weight {w:.2f}" for number, w in enumerate(row["image_weights"], 1) if w]
        lines.append(f"  photos     {len(row['image_weights'])}, looked at: {', '.join(seen) or 'none'}")
    lines += [f"  problem    {problem}" for problem in row["problems"]]
    if row.get("profile") is not None:
        proof = "the most probable profile" if row["exact"] else "perhaps not the most probable profile"
        lines.append(f"  predicted  {row['text']}")
        if row.get("decided") is not None:
            sure = [attribute.name for attribute in schema.attributes if row["decided"][attribute.key] is not None]
            lines.append(f"  sure of    {', '.join(sure) or 'nothing'}")
        score = "not computed" if row["log_probability"] is None else f"{row['log_probability']:.2f}"
        lines.append(f"  {'':10} log-probability {score}, {proof}")
    if row["truth"] is not None:
        lines.append(f"  true       {schema.render(row['truth'])}")
    if row.get("profile") is not None:
        lines.append(f"  probabilities; the profiles explored have {row['coverage']:.0%} of the mass:")
        width = max(len(attribute.name) for attribute in schema.attributes)
        for attribute in schema.attributes:
            probabilities = sorted(row["probabilities"][attribute.key].items(), key=lambda item: -item[1])
            items = [f"{value} {probability:.2f}".replace(" ", UNBROKEN) for value, probability in probabilities]
            head = f"    {attribute.name:{width}}  "
            wrapped = textwrap.wrap(", ".join(items), 112, initial_indent=head, subsequent_indent=" " * len(head))
            lines += [line.replace(UNBROKEN, " ") for line in wrapped]
    return "\n".join(lines)
