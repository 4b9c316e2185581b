//! Texts that all commands share: the name of the program, and the form of an error.

/// The name by which the user called the program.
pub(super) fn called() -> &'static str {
    // `./dev` passes its own name on.
    if std::env::args_os().next().is_some_and(|name| name == "./dev") { "./dev" } else { "hongyan" }
}

/// The text of an error for a person. With `faults`, each line is a fault of its own. Otherwise the first line is the
/// error, and the lines after it, such as the end of a server's log, are indented below it.
pub(super) fn told(error: &str, faults: bool) -> String {
    format!("error: {}", error.replace('\n', if faults { "\nerror: " } else { "\n  " }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_is_the_error_and_the_others_belong_to_it() {
        assert_eq!(told("A must be set\nB must be set", true), "error: A must be set\nerror: B must be set");
        assert_eq!(
            told("Redis ended; its log says last:\nno memory", false),
            "error: Redis ended; its log says last:\n  no memory"
        );
    }
}
