//! Tables for people.

use std::fmt::Write;

use crate::text::printable;

/// Lines with aligned columns under `header`, each line ended.
pub(crate) fn table<const N: usize>(header: [&str; N], rows: &[[String; N]]) -> String {
    let rows: Vec<[String; N]> =
        rows.iter().map(|row| row.each_ref().map(|cell| printable(cell))).collect();
    let mut widths = header.map(|title| title.chars().count());
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    line(&mut text, &widths, header);
    for row in &rows {
        line(&mut text, &widths, row.each_ref().map(String::as_str));
    }
    text
}

fn line<const N: usize>(text: &mut String, widths: &[usize; N], cells: [&str; N]) {
    let mut line = String::new();
    for (width, cell) in widths.iter().zip(cells) {
        // Writing to a String cannot fail.
        let _ = write!(line, "{cell:width$}  ");
    }
    text.push_str(line.trim_end());
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_control_characters_go() {
        let rows = [["7".to_owned(), "wörm\x1b[2J".to_owned()], ["12".into(), String::new()]];
        assert_eq!(table(["ID", "NAME"], &rows), "ID  NAME\n7   wörm\\u{1b}[2J\n12\n");
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
