//! Words that all commands share: the name that a person called, and the form of an error.

/// The name that a person called the binary by.
pub(super) fn called() -> &'static str {
    // `./dev` hands its own name on.
    if std::env::args_os().next().is_some_and(|name| name == "./dev") { "./dev" } else { "hongyan" }
}

/// An error as a person reads it: `faults` has a line for each fault; of any other text the first line says it all, and the
/// others, a server's last words, belong to it.
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
