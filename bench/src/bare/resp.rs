//! The part of Redis' protocol that the bench needs: writing commands, and parsing lines of MONITOR.

/// Adds a command.
pub(super) fn write_command<A: AsRef<[u8]>>(out: &mut Vec<u8>, arguments: &[A]) {
    out.extend_from_slice(format!("*{}\r\n", arguments.len()).as_bytes());
    for argument in arguments {
        let argument = argument.as_ref();
        out.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
        out.extend_from_slice(argument);
        out.extend_from_slice(b"\r\n");
    }
}

/// The command in a line of MONITOR: `+1339518083.107412 [1 127.0.0.1:60866] "set" "key" "va\"lue"`. `None` for a
/// command that a script called, and for any other line.
pub(super) fn monitored(line: &str) -> Option<Vec<Vec<u8>>> {
    let rest = line.split_once('[')?.1;
    let (client, commands) = rest.split_once("] ")?;
    if client.ends_with(" lua") {
        return None;
    }
    let mut arguments = Vec::new();
    let mut bytes = commands.trim_end().bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => arguments.push(quoted(&mut bytes)?),
            b' ' => {}
            _ => return None,
        }
    }
    (!arguments.is_empty()).then_some(arguments)
}

/// Parses the rest of a quoted text.
fn quoted(bytes: &mut impl Iterator<Item = u8>) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    loop {
        match bytes.next()? {
            b'"' => return Some(text),
            b'\\' => text.push(match bytes.next()? {
                b'n' => b'\n',
                b'r' => b'\r',
                b't' => b'\t',
                b'a' => 7,
                b'b' => 8,
                b'x' => {
                    let mut digit = || char::from(bytes.next()?).to_digit(16);
                    u8::try_from(digit()? * 16 + digit()?).ok()?
                }
                other => other,
            }),
            byte => text.push(byte),
        }
    }
}

/// Replaces each placeholder in `text`.
pub(super) fn replaced(text: &[u8], replacements: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    'text: while let Some((first, tail)) = rest.split_first() {
        for (old, new) in replacements {
            if let Some(after) = rest.strip_prefix(*old) {
                out.extend_from_slice(new);
                rest = after;
                continue 'text;
            }
        }
        out.push(*first);
        rest = tail;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_written_with_its_lengths() {
        let mut out = Vec::new();
        write_command(&mut out, &["GET", "鸿"]);
        assert_eq!(out, "*2\r\n$3\r\nGET\r\n$3\r\n鸿\r\n".as_bytes());
    }

    #[test]
    fn a_line_of_monitor_is_read_back() {
        let line = r#"+1339518083.107412 [1 127.0.0.1:60866] "set" "k y" "a\"b\\c\r\n\xe9\xb8\xbf""#;
        let wanted: [&[u8]; 3] = [b"set", b"k y", "a\"b\\c\r\n鸿".as_bytes()];
        assert_eq!(monitored(line).unwrap(), wanted);
        assert_eq!(monitored(r#"+1.2 [1 lua] "get" "k""#), None);
        assert_eq!(monitored("+OK"), None);
        assert_eq!(monitored(r#"+1.2 [1 127.0.0.1:1] "get" "cut off"#), None);
    }

    #[test]
    fn all_is_replaced_in_one_pass() {
        let text = replaced(b"1_2 and 2", &[(b"1", b"2"), (b"2", b"3")]);
        assert_eq!(text, b"2_3 and 3");
    }
}
