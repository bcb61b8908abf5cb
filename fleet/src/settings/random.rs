//! What nobody can guess.

use std::io;

/// `BYTES` bytes of the system's random bits, as twice as many hex digits.
pub(crate) fn hex<const BYTES: usize>() -> io::Result<String> {
    let mut bits = [0; BYTES];
    getrandom::fill(&mut bits).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(bits.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_byte_is_two_digits_and_none_stands_still() {
        let drawn: Vec<String> = (0..64).map(|_| hex::<20>().unwrap()).collect();
        for text in &drawn {
            assert!(text.len() == 40 && text.bytes().all(|digit| digit.is_ascii_hexdigit()));
        }
        // That a digit is the same in all 64 has a chance of 16 to the power of -63.
        for place in 0..40 {
            let digits: HashSet<u8> = drawn.iter().map(|text| text.as_bytes()[place]).collect();
            assert!(digits.len() > 1, "digit {place} of {drawn:?}");
        }
    }
}
