/// The longest head of a frame, its mask apart.
const LONGEST_HEAD: usize = 10;
/// Opcodes from this one on are those of control frames, which may stand inside a message.
const CONTROL: u8 = 8;

/// Follows the frames in a stream of bytes, as far as to tell where a message ends. It reads no
/// payload and judges nothing: that is the WebSocket library's task.
#[derive(Debug, Default)]
pub(super) struct FrameScanner {
    /// The head of the next frame, as far as it has come.
    head: [u8; LONGEST_HEAD],
    head_bytes: u8,
    /// The last frame with a part of a message was not its end.
    is_open: bool,
    /// What is missing of the frame whose head came last, mask included.
    missing: u64,
}

impl FrameScanner {
    /// These bytes come next.
    pub(super) fn pass(&mut self, mut bytes: &[u8]) {
        loop {
            let skipped = usize::try_from(self.missing).unwrap_or(usize::MAX).min(bytes.len());
            self.missing -= skipped as u64;
            bytes = &bytes[skipped..];
            // Most heads come whole, and are short.
            if self.head_bytes == 0
                && let Some([first, second, high, low]) = bytes.first_chunk()
                && second & 0x7f != 127
            {
                let (head, payload) = match second & 0x7f {
                    126 => (4, u16::from_be_bytes([*high, *low]).into()),
                    short => (2, short.into()),
                };
                self.begin(*first, *second, payload);
                bytes = &bytes[head..];
                continue;
            }
            let Some((&byte, rest)) = bytes.split_first() else { return };
            bytes = rest;
            self.head[usize::from(self.head_bytes)] = byte;
            self.head_bytes += 1;
            if let Some(payload) = self.payload() {
                self.begin(self.head[0], self.head[1], payload);
            }
        }
    }

    /// Whether all that has passed is whole messages and control frames.
    pub(super) fn are_whole(&self) -> bool {
        self.missing == 0 && self.head_bytes == 0 && !self.is_open
    }

    /// The length of the payload, once the head is there.
    fn payload(&self) -> Option<u64> {
        match (self.head_bytes, self.head[1] & 0x7f) {
            (..2, _) => None,
            (4, 126) => Some(u16::from_be_bytes([self.head[2], self.head[3]]).into()),
            (10, 127) => {
                let [_, _, length @ ..] = self.head;
                Some(u64::from_be_bytes(length))
            }
            (_, 126 | 127) => None,
            (_, short) => Some(short.into()),
        }
    }

    /// The two first bytes of the head, and what its length says.
    fn begin(&mut self, first: u8, second: u8, payload: u64) {
        let is_masked = second & 0x80 != 0;
        let is_last = first & 0x80 != 0;
        self.missing = payload.saturating_add(if is_masked { 4 } else { 0 });
        if first & 0x0f < CONTROL {
            self.is_open = !is_last;
        }
        self.head_bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// FrameScanner of every form: the first byte, the length, its form, whether there is a mask.
    fn frame(first: u8, payload: usize, form: u8, is_masked: bool) -> Vec<u8> {
        let mask = if is_masked { 0x80 } else { 0 };
        let length = payload as u64;
        let mut frame = match form {
            126 => [&[first, mask | 126][..], &length.to_be_bytes()[6..]].concat(),
            127 => [&[first, mask | 127][..], &length.to_be_bytes()].concat(),
            _ => vec![first, mask | payload as u8],
        };
        // What follows looks like heads.
        frame.resize(frame.len() + payload + if is_masked { 4 } else { 0 }, 0x81);
        frame
    }

    /// The bytes, and where in them a message ends.
    fn stream() -> (Vec<u8>, Vec<usize>) {
        let (mut bytes, mut ends) = (Vec::new(), vec![0]);
        for (payload, form) in
            [(0, 0), (1, 0), (125, 0), (126, 126), (5, 126), (1000, 126), (7, 127), (70_000, 127)]
        {
            for is_masked in [true, false] {
                bytes.extend(frame(0x81, payload, form, is_masked));
                ends.push(bytes.len());
                // A message in three parts with a ping between: no end before the last of them.
                bytes.extend(frame(0x02, payload, form, is_masked));
                bytes.extend(frame(0x89, 3, 0, is_masked));
                bytes.extend(frame(0x00, payload, form, is_masked));
                bytes.extend(frame(0x80, payload, form, is_masked));
                ends.push(bytes.len());
            }
        }
        (bytes, ends)
    }

    #[test]
    fn a_message_ends_where_its_last_frame_does_in_pieces_of_any_length() {
        let (bytes, ends) = stream();
        for piece in [1, 2, 3, 9, 10, 11, 1000, bytes.len()] {
            let (mut frames, mut passed) = (FrameScanner::default(), 0);
            for piece in bytes.chunks(piece) {
                assert_eq!(frames.are_whole(), ends.contains(&passed), "after {passed}");
                frames.pass(piece);
                passed += piece.len();
            }
            assert!(frames.are_whole(), "in pieces of {piece}");
        }
    }

    #[test]
    fn any_length_is_only_counted_down() {
        let mut frames = FrameScanner::default();
        frames.pass(&[0x81, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
        frames.pass(&[0; 5000]);
        assert!(!frames.are_whole());
    }
}
