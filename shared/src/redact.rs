//! The texts of errors without the words of a message: serde's and MySQL's errors quote the value that they refuse, and such a
//! text goes into the log and into the headers of a dead letter.

/// The place of a quoted value.
const CUT: &str = "…";

/// The longest name of a variant, bytes.
const LONGEST_NAME: usize = 16;

/// The text of serde's error without the value that it quotes. Names of our fields and variants stay.
pub fn json(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let mut told = String::with_capacity(text.len());
    let mut rest = text.as_str();
    // `string "…"` is quoted as Rust quotes a text, with escapes.
    while let Some((before, quoted)) = rest.split_once('"') {
        told.push_str(before);
        told.push_str(CUT);
        rest = after_quote(quoted);
    }
    told.push_str(rest);
    // The rest of ``unknown variant `…`, expected `PERSIST` or `RECALL` `` names what is expected.
    for opening in ["unknown variant `", "unknown field `", "character `"] {
        if let Some((before, value)) = told.split_once(opening) {
            let end = value.rfind("`, expected ").or_else(|| value.find('`')).unwrap_or(value.len());
            let (value, after) = value.split_at(end);
            // A word that could be the name of a variant helps to find the producer.
            let is_name = value.len() <= LONGEST_NAME && value.bytes().all(|byte| byte.is_ascii_uppercase());
            told = format!("{before}{opening}{}{after}", if is_name { value } else { CUT });
        }
    }
    told
}

/// The text behind the quote that ends a quoted value.
fn after_quote(quoted: &str) -> &str {
    let mut is_escaped = false;
    for (place, character) in quoted.char_indices() {
        match character {
            '"' if !is_escaped => return &quoted[place + 1..],
            '\\' => is_escaped = !is_escaped,
            _ => is_escaped = false,
        }
    }
    ""
}

/// The text of MySQL's error without the value that it quotes. Names of columns, keys and tables stay.
///
/// MySQL does not escape a quote within a value, so everything from the value's first quote to the last name is cut.
pub fn mysql(text: &str) -> String {
    let Some((before, quoted)) = text.split_once('\'') else { return text.to_owned() };
    let names = ["column ", "key ", "table ", "constraint ", "user ", "database "];
    if names.iter().any(|name| before.to_ascii_lowercase().ends_with(name)) {
        return text.to_owned();
    }
    let name =
        [" for column '", " for key '", " in table '"].iter().filter_map(|name| quoted.rfind(name)).max();
    let after = name.map_or("", |name| &quoted[name..]);
    format!("{before}'{CUT}'{after}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::MessageEvent;

    const WORDS: &str = "meet me at nine";

    #[test]
    fn a_record_that_cannot_be_read_is_told_without_its_words() {
        let message = |fields: &str| format!(r#"{{"action":"PERSIST","data":{{{fields}}}}}"#);
        let records = [
            format!(r#"{{"action":"{WORDS}"}}"#),
            format!(r#"{{"action":"{WORDS}`, expected `x"}}"#),
            format!("\"{WORDS}\""),
            format!(r#"{{"action":"PERSIST","data":"{WORDS} \" {WORDS}"}}"#),
            message(&format!(r#""id":"{WORDS}""#)),
            message(&format!(r#""id":1,"fromUserId":1,"toId":2,"content":"a","msgType":"{WORDS}""#)),
            message(&format!(r#""id":1,"fromUserId":1,"toId":2,"content":["{WORDS}"]"#)),
        ];
        for record in records {
            let error = MessageEvent::parse(record.as_bytes()).unwrap_err();
            let told = json(&error);
            assert!(!told.contains("nine"), "{told}");
            assert!(told.contains("line 1 column"), "{told}");
        }
        for (action, told) in [("ARCHIVE", "ARCHIVE"), ("Archive", "…"), ("AT NINE", "…")] {
            let error = MessageEvent::parse(format!(r#"{{"action":"{action}"}}"#).as_bytes()).unwrap_err();
            let expected = format!("unknown variant `{told}`, expected `PERSIST` or `RECALL`");
            assert!(json(&error).starts_with(&expected), "{}", json(&error));
        }
    }

    #[test]
    fn a_row_that_mysql_refuses_is_told_without_its_words() {
        for (text, told) in [
            (
                r"1366 (HY000): Incorrect string value: '\xF0\x9F nine' for column 'content' at row 1",
                r"1366 (HY000): Incorrect string value: '…' for column 'content' at row 1",
            ),
            (
                "1062 (23000): Duplicate entry '1-it's nine for key 'x'' for key 'message.uk_client_msg_id'",
                "1062 (23000): Duplicate entry '…' for key 'message.uk_client_msg_id'",
            ),
            (
                "1292 (22007): Truncated incorrect INTEGER value: 'nine'",
                "1292 (22007): Truncated incorrect INTEGER value: '…'",
            ),
            (
                "1064 (42000): You have an error in your SQL syntax near 'nine' at line 1",
                "1064 (42000): You have an error in your SQL syntax near '…'",
            ),
            (
                "1406 (22001): Data too long for column 'content' at row 1",
                "1406 (22001): Data too long for column 'content' at row 1",
            ),
            (
                "1146 (42S02): Table 'hongyan.message' doesn't exist",
                "1146 (42S02): Table 'hongyan.message' doesn't exist",
            ),
            (
                "1045 (28000): Access denied for user 'a'@'b' (using password: YES)",
                "1045 (28000): Access denied for user 'a'@'b' (using password: YES)",
            ),
            ("Too many connections", "Too many connections"),
        ] {
            assert_eq!(mysql(text), told);
        }
    }
}
