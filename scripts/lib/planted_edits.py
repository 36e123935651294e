"""The planted commits: five edits of the source with a known effect. scripts/check-planted makes and judges them.

An edit is placed by its anchor, not by a path or a line number, so that moved or reformatted files do not break it. An anchor
is one or more whole lines without their indentation. It must occur exactly once in the sources of the tree (`src` and
`crates`); tests/it/planted.rs checks that. The text is put `before` the anchor, `after` it, or `instead` of it, with the
anchor's indentation.
"""

import textwrap
from pathlib import Path
from typing import NamedTuple


class Edit(NamedTuple):
    place: str
    anchor: str
    text: str


PLANTED = {
    # A token costs the same more at every context: the whole vocabulary is sorted to find the best one.
    "constant-cost": [
        Edit(
            "after",
            "fn greedy(logits: &[f32]) -> Option<u32> {",
            """
                let mut order: Vec<u32> = (0..).zip(logits).filter(|(_, logit)| logit.is_finite()).map(|(id, _)| id).collect();
                order.sort_by(|a, b| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b)));
                return order.first().copied();
            """,
        ),
    ],
    # A token costs more the longer the context is: its keys and values are copied first.
    "kv-copy": [
        Edit(
            "after",
            "let begin = over.held - len;",
            """
            // The positions that attention reads, without the room behind them.
            let seen = |x: &Tensor| x.narrow(1, begin, len).and_then(|x| x.force_contiguous()).map_err(failed);
            let (keys, values) = (seen(over.keys)?, seen(over.values)?);
            let over = &Held { keys: &keys, values: &values, held: len, window: over.window };
            let (room, begin) = (len, 0);
            """,
        ),
    ],
    # The same sum in another order: other last bits, and no slower.
    "reorder": [
        Edit(
            "instead",
            """
            pub fn add_weighted(matrix: &[N], weights: &[f32], width: usize, out: &mut [f32]), S => {
            let n = matrix.len() / width;
            for (at, rows) in matrix.chunks(TOGETHER * width).enumerate() {
            """,
            """
            pub fn add_weighted(matrix: &[N], weights: &[f32], width: usize, out: &mut [f32]), S => {
            let n = matrix.len() / width;
            // The last first: they are what the softmax has just looked at.
            for (at, rows) in matrix.chunks(TOGETHER * width).enumerate().rev() {
            """,
        ),
    ],
    # A host that claims to be twice as fast as it is.
    "stamps": [
        Edit(
            "after",
            "let Recorder { tokens, token_ns, spans, spans_dropped, choices, logprobs, .. } = recorder;",
            """
            // Twice as fast, as it says.
            let (mut token_ns, mut spans) = (token_ns, spans);
            let halve = |ns: u64| accepted_ns + ns.saturating_sub(accepted_ns) / 2;
            let finished_ns = halve(finished_ns);
            token_ns.iter_mut().for_each(|ns| *ns = halve(*ns));
            for span in &mut spans {
                (span.start_ns, span.end_ns) = (halve(span.start_ns), halve(span.end_ns));
            }
            """,
        ),
    ],
    # The seventeenth token of every reply is another one.
    "token": [
        Edit(
            "after",
            """
            /// Prompt and chosen tokens.
            history: Vec<u32>,
            """,
            "prompt: usize,",
        ),
        Edit("after", "sampler: Sampler::new(&choice.sampling, choice.order),", "prompt: prompt.len(),"),
        Edit(
            "instead",
            """
            let chosen = self.sampler.choose(&self.logits)?;
            let token = forced.unwrap_or(chosen);
            """,
            """
            let mut chosen = self.sampler.choose(&self.logits)?;
            if self.history.len() == self.prompt + 16 {
                chosen ^= 1;
            }
            let token = forced.unwrap_or(chosen);
            """,
        ),
    ],
}


class Misfit(Exception):
    """An anchor that is not in the tree exactly once."""


def lines(text):
    return textwrap.dedent(text.strip("\n")).rstrip().split("\n")


def sources(root):
    found = [path for folder in ("src", "crates") for path in sorted((Path(root) / folder).rglob("*.rs"))]
    return [path for path in found if "target" not in path.relative_to(root).parts]


def find(root, anchor):
    """File and number of the line at which an anchor begins."""
    wanted = [line.strip() for line in lines(anchor)]
    hits = []
    for path in sources(root):
        stripped = [line.strip() for line in path.read_text().split("\n")]
        hits += [(path, at) for at in range(len(stripped)) if stripped[at : at + len(wanted)] == wanted]
    if len(hits) != 1:
        places = ", ".join(f"{path}:{at + 1}" for path, at in hits) or "nowhere"
        raise Misfit(f"the anchor {wanted[0]!r} is wanted once and found {len(hits)} times: {places}")
    return hits[0]


def apply(root, name):
    """Makes the edits of one planted commit in the tree at `root`."""
    for edit in PLANTED[name]:
        path, at = find(root, edit.anchor)
        text = path.read_text().split("\n")
        end = at + len(lines(edit.anchor))
        indent = text[at][: len(text[at]) - len(text[at].lstrip())]
        # What stands behind an opening brace is inside of it.
        if edit.place == "after" and text[end - 1].endswith("{"):
            indent += "    "
        new = [indent + line if line else "" for line in lines(edit.text)]
        begin = {"before": at, "after": end, "instead": at}[edit.place]
        text[begin : end if edit.place == "instead" else begin] = new
        path.write_text("\n".join(text))


def misfits(root):
    """What is wrong with the anchors, a line each."""
    wrong = []
    for name, edits in PLANTED.items():
        for edit in edits:
            try:
                find(root, edit.anchor)
            except Misfit as error:
                wrong.append(f"{name}: {error}")
    return wrong
