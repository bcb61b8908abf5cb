//! Tables for people.

use comfy_table::{ContentArrangement, Table, presets};
use seqlink::printable::Printable;

/// Most columns of a terminal that a cell takes.
const WIDEST: usize = 120;

/// Lines with aligned columns under `header`, each line ended.
pub fn table<const N: usize>(header: [&str; N], rows: &[[String; N]]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header);
    for row in rows {
        table.add_row(row.each_ref().map(|cell| Printable::new(cell).cut(WIDEST).to_string()));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.trim_fmt() + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_control_characters_go() {
        let rows = [["7".to_owned(), "wörm\x1b[2J".to_owned()], ["12".into(), String::new()]];
        assert_eq!(table(["ID", "NAME"], &rows), "ID  NAME\n7   wörm\\u{1b}[2J\n12\n");
        assert_eq!(table(["ID", "NAME"], &[]), "ID  NAME\n");
    }

    #[test]
    fn a_cell_of_any_length_is_cut() {
        let rows = [["x".repeat(70_000), "b".to_owned()]];
        let table = table(["A", "B"], &rows);
        let cell = table.lines().nth(1).and_then(|row| row.split_whitespace().next()).unwrap();
        assert_eq!((cell.chars().count(), cell.ends_with("x…")), (120, true));
    }

    #[test]
    fn characters_of_two_columns_line_up() {
        let rows = [["穴穴".to_owned(), "a".to_owned()], ["é".into(), "b".into()]];
        assert_eq!(table(["A", "B"], &rows), "A     B\n穴穴  a\né     b\n");
    }
}
