//! Text of peers, made fit for logs and terminals.

use std::fmt::{self, Write as _};

use unicode_width::UnicodeWidthChar as _;

/// Most columns of a text that is not told otherwise.
pub const WIDTH: usize = 1024;

/// A text of a peer as one short line, in which every character stands where it is written.
///
/// What moves a cursor, ends a line, turns the direction of writing or takes no column of its own
/// is shown as its escape, such as `\n` or `\u{202e}`: the controls (C0, DEL, C1), separators of
/// lines and paragraphs, spaces other than the usual one, bidi controls and all other format
/// characters, marks that sit on other characters, fillers, and what Unicode has not assigned.
/// `Display` leaves quotes and backslashes alone, so a text that is escaped twice reads the same;
/// `Debug` is the same between quotes, with those two escaped.
///
/// More than [`WIDTH`] columns, or those of [`cut`](Self::cut), become one less and an ellipsis.
///
/// The `Display` of this library's errors and reasons shows what a peer said in this way. The
/// text as it came is had from [`Reason::as_str`](crate::Reason::as_str) and
/// [`RemoteError::message`](crate::RemoteError::message).
///
/// ```
/// use seqlink::printable::Printable;
///
/// let name = Printable::new("two\nlines \u{202e}and more").cut(24);
/// assert_eq!(name.to_string(), r"two\nlines \u{202e}and …");
/// ```
#[derive(Clone, Copy)]
pub struct Printable<'a> {
    text: &'a str,
    width: usize,
}

impl<'a> Printable<'a> {
    /// `text`, at most [`WIDTH`] columns of it.
    pub fn new(text: &'a str) -> Self {
        Self { text, width: WIDTH }
    }

    /// At most `width` columns of it.
    #[must_use]
    pub fn cut(self, width: usize) -> Self {
        Self { width, ..self }
    }

    fn write(&self, f: &mut fmt::Formatter<'_>, is_shown: fn(char) -> bool) -> fmt::Result {
        let (start, is_cut) = self.fitting(is_shown);
        for c in start.chars() {
            match is_shown(c) {
                true => f.write_char(c)?,
                false => write!(f, "{}", c.escape_default())?,
            }
        }
        if is_cut { f.write_char('…') } else { Ok(()) }
    }

    /// As much of the text as is shown, and whether that is not all. No more is looked at.
    fn fitting(&self, is_shown: fn(char) -> bool) -> (&'a str, bool) {
        let (mut columns, mut end) = (0, 0);
        for (at, c) in self.text.char_indices() {
            // Up to here there is a column left for the ellipsis.
            if columns < self.width {
                end = at;
            }
            columns += match is_shown(c) {
                true => c.width().unwrap_or(0),
                false => c.escape_default().len(),
            };
            if columns > self.width {
                return (&self.text[..end], true);
            }
        }
        (self.text, false)
    }
}

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, is_printable)
    }
}

impl fmt::Debug for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        self.write(f, |c| is_printable(c) && !matches!(c, '"' | '\\'))?;
        f.write_char('"')
    }
}

/// Whether `c` is shown as it is by [`Printable`]: it has a width of its own, is to be seen, and
/// changes nothing around it.
pub fn is_printable(c: char) -> bool {
    match c {
        ' '..='~' => true,
        // Letters by their category and with a width, and nothing is to be seen of them.
        '\u{115f}' | '\u{2800}' => false,
        // The standard library escapes in `Debug` what does not print.
        _ => c.escape_debug().len() == 1 && c.width().is_some_and(|width| width > 0),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use unicode_width::UnicodeWidthStr as _;

    use super::*;

    /// Neither too much is escaped nor, in any script, what other text could stand on.
    #[test]
    fn nearly_all_characters_are_shown() {
        let assigned = ('\0'..=char::MAX).filter(|c| c.is_alphanumeric()).count();
        let shown = ('\0'..=char::MAX).filter(|c| c.is_alphanumeric() && is_printable(*c)).count();
        assert!(shown > assigned - assigned / 100, "{shown} of {assigned}");
    }

    #[test]
    fn what_does_something_to_a_terminal_is_escaped() {
        let invisible = "\0\u{7}\u{8}\t\n\r\u{1b}\u{7f}\u{80}\u{85}\u{9b}\u{9c}\u{a0}\u{ad}\u{301}\u{34f}\u{d4e}\u{1161}\
            \u{61c}\u{115f}\u{1160}\u{180e}\u{2000}\u{200b}\u{200c}\u{200d}\u{200e}\u{200f}\u{2028}\
            \u{2029}\u{202a}\u{202b}\u{202c}\u{202d}\u{202e}\u{2060}\u{2066}\u{2067}\u{2068}\u{2069}\
            \u{2800}\u{3164}\u{e000}\u{fe0f}\u{feff}\u{ffa0}\u{fff9}\u{e0001}\u{e0041}\u{e0100}";
        for c in invisible.chars() {
            let text = Printable::new(&format!("a{c}b")).to_string();
            assert_eq!(text, format!("a{}b", c.escape_default()));
            assert!(text.is_ascii());
        }
        for text in ["wörm's \"hole\" \\ 7", "穴 ἄλφα ходы", "🦀"] {
            assert_eq!(Printable::new(text).to_string(), text);
        }
        assert_eq!(format!("{:?}", Printable::new("a\"\\\n")), r#""a\"\\\n""#);
    }

    proptest! {
        #[test]
        fn any_text_is_a_line_of_at_most_its_width_and_reads_the_same_twice(
            text in any::<String>(),
            width in 0..40_usize,
        ) {
            let once = Printable::new(&text).cut(width).to_string();
            prop_assert!(once.chars().all(is_printable), "{:?}", once);
            prop_assert!(once.width() <= width.max(1), "{:?}", once);
            prop_assert_eq!(Printable::new(&once).cut(width).to_string(), once);
        }
    }

    #[test]
    fn a_text_that_fits_is_whole_and_a_longer_one_says_that_it_goes_on() {
        let cut = |text: &str, width| Printable::new(text).cut(width).to_string();
        assert_eq!(cut("abcd", 4), "abcd");
        assert_eq!(cut("abcde", 4), "abc…");
        assert_eq!(cut("ab\n", 4), "ab\\n");
        // No half escapes.
        assert_eq!(cut("ab\nc", 4), "ab…");
        assert_eq!(cut("穴穴穴", 5), "穴穴…");
        assert_eq!(cut("a", 0), "…");
        assert_eq!(Printable::new(&"x".repeat(1 << 20)).to_string().chars().count(), WIDTH);
    }
}
