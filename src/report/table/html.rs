//! Tables for HTML pages. maud escapes all text.

use maud::{Markup, html};

use super::{Cell, Column, HTML, Role, Shape};
use crate::report::summary::NOT_MEASURED;
use crate::report::text::{self, capital};

pub fn write(shape: &Shape) -> Markup {
    let columns: Vec<&Column> = shape.shown(HTML).collect();
    // A body for each group of rows; one body if there are no groups.
    let begins = (0..shape.rows).filter(|row| *row == 0 || !shape.begins.is_empty() && shape.begins[*row]);
    let edges: Vec<usize> = begins.chain([shape.rows]).collect();
    html! {
        div.scroll role="region" tabindex="0" aria-label=(text::sentence(&shape.name)) {
            table class=[class(&[(!shape.roomy, "dense")])] {
                @if let Some(caption) = &shape.caption { caption { (text::sentence(caption)) } }
                thead { tr { @for column in &columns { (head(column)) } } }
                @for edge in edges.windows(2) {
                    tbody {
                        @for row in edge[0]..edge[1] {
                            tr {
                                @for column in &columns {
                                    @if column.role != Role::Group || row == edge[0] {
                                        (cell(column, &column.cells[row], edge[1] - edge[0]))
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn head(column: &Column) -> Markup {
    let title = text::label(&column.title);
    let title = if column.named { title } else { capital(&title) };
    let meaning = Some(column.meaning).filter(|meaning| !meaning.is_empty());
    html! {
        @if title.is_empty() {
            td {}
        } @else {
            th class=[class(&[(column.number, "number")])] scope="col" title=[meaning] {
                (title)
                @if !column.unit.is_empty() { br; span.unit { (text::label(&column.unit)) } }
            }
        }
    }
}

fn cell(column: &Column, cell: &Cell, rows: usize) -> Markup {
    let inside = inside(column, cell);
    let hint = cell.hint.as_deref().map(text::sentence);
    let class = class(&[(column.number, "number"), (column.said, "said"), (cell.alarm, "alarm")]);
    html! {
        @match column.role {
            Role::Group => th scope="rowgroup" rowspan=(rows) title=[hint] { (inside) },
            Role::Header => th class=[class] scope="row" title=[hint] { (inside) },
            _ => td class=[class] title=[hint] { (inside) },
        }
    }
}

/// The names whose condition holds, if any does.
fn class(names: &[(bool, &str)]) -> Option<String> {
    let names: Vec<&str> = names.iter().filter(|(holds, _)| *holds).map(|(_, name)| *name).collect();
    (!names.is_empty()).then(|| names.join(" "))
}

fn inside(column: &Column, cell: &Cell) -> Markup {
    let words = cell.words.as_deref().map_or_else(|| NOT_MEASURED.to_owned(), |words| column.line(words));
    html! {
        @match (&cell.page, cell.badge, &cell.range) {
            (Some(markup), ..) => (markup),
            (_, Some((class, sign)), _) => span class={ "verdict " (class) } { (sign) " " (words) },
            (.., Some(range)) => { span.median { (words) } br; span.interval { (column.line(range)) } },
            _ if cell.code => code { (words) },
            _ => { (words) @if cell.strong { " *" } },
        }
        @if !cell.unit.is_empty() { " " span.unit { (cell.unit) } }
    }
}
