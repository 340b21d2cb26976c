"""`slowthink recipes`: the shipped recipes, with one line each."""

from __future__ import annotations

from slowthink.cli.options import Json, print_result


def recipes(json_: Json = False) -> None:
    """List the shipped recipes. A recipe of your own can extend one: `extends: NAME`.

    Example: slowthink recipes
    """
    from slowthink.recipe.loading import recipe_names, recipe_summary

    summaries = {name: recipe_summary(name) for name in recipe_names()}
    width = max(map(len, summaries))
    lines = [f"{name:{width}}  {summary}" for name, summary in summaries.items()]
    print_result("\n".join(lines), summaries, as_json=json_)
