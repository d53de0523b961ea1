//! What a custodian takes on by giving a share.

/// The name of [`DUTIES_TEXT`]: whoever accepts it says it with each share, and the log has it beside the
/// share's number. Another text gets another name.
pub const DUTIES: &str = "custodian-duties-1";

/// The duties, as `vaultctl` shows them and `docs/operations/ceremonies.md` has them.
pub const DUTIES_TEXT: &str = "\
I keep my share secret and to myself: nobody else sees it, copies it or holds it for me.
I keep it apart from other shares and from the keyring, and where I can find it when it is needed.
I give it only to a ceremony that a fellow custodian told me of, and only for a reason that I know.
I report at once if it is lost or somebody else may have seen it, and when my office ends.
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ceremonies_page_has_the_duties_word_for_word() {
        let page = include_str!("../../docs/operations/ceremonies.md");
        assert!(page.contains(DUTIES));
        for line in DUTIES_TEXT.lines() {
            assert!(page.contains(&format!("> {line}\n")), "{line}");
        }
    }
}
