//! Contents of messages: 20 to 300 bytes of Latin, Chinese, Japanese, Korean and emoji, mixed as people mix them.

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

/// The fewest and the most bytes of UTF-8 in a content.
const BYTES: std::ops::RangeInclusive<usize> = 20..=300;
/// How many different contents there are.
const CONTENTS: usize = 512;
/// The seed: the contents are the same in each measurement, so that two measurements carry the same bytes.
const SEED: u64 = 20_261_128;
/// No `"` and `\`, so that a content can stand in JSON without escapes.
const WORDS: [&str; 24] = [
    "the goose ",
    "carries ",
    "a letter ",
    "home, ",
    "wherever home ",
    "may be ",
    "tonight. ",
    "ok ",
    "see you at 7? ",
    "鸿雁",
    "传书，",
    "今晚",
    "在哪里见？",
    "好的，",
    "我马上到。",
    "こんにちは、",
    "ありがとう。",
    "안녕하세요 ",
    "고마워요 ",
    "😀",
    "👍🏽",
    "❤️",
    "🎉 ",
    "👨‍👩‍👧 ",
];

/// A set of contents.
pub(crate) struct Contents(Vec<String>);

impl Contents {
    pub(crate) fn new() -> Self {
        let mut random = StdRng::seed_from_u64(SEED);
        Self((0..CONTENTS).map(|_| one(&mut random)).collect())
    }

    /// A random content.
    pub(crate) fn any(&self) -> &str {
        &self.0[rand::rng().random_range(0..self.0.len())]
    }

    /// The contents one after another, endlessly.
    pub(crate) fn number(&self, number: usize) -> &str {
        &self.0[number % self.0.len()]
    }
}

/// Adds words until a random length is reached.
fn one(random: &mut StdRng) -> String {
    let length = random.random_range(BYTES);
    let mut content = String::new();
    while content.len() < length {
        let word = WORDS[random.random_range(0..WORDS.len())];
        if content.len() + word.len() > *BYTES.end() {
            break;
        }
        content.push_str(word);
    }
    content
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_have_20_to_300_bytes_of_many_scripts() {
        let contents = Contents::new();
        for content in &contents.0 {
            assert!(BYTES.contains(&content.len()), "{} bytes: {content}", content.len());
            assert_eq!(serde_json::to_string(content).unwrap(), format!("\"{content}\""));
        }
        let all = contents.0.concat();
        for char in ['鸿', 'こ', '안', '😀'] {
            assert!(all.contains(char), "{char}");
        }
        assert!(contents.0.iter().any(|content| content.len() < 60));
        assert!(contents.0.iter().any(|content| content.len() > 250));
    }
}
