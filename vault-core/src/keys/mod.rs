// NOTE FROM THE LEAD to the worker of this clone (remove this note): the keys room is on everybody's critical path, so the
// lead is writing its first version right now (root.rs keyring.rs token_tag.rs seal.rs file.rs anchor.rs journal.rs, committed on
// /work/main within minutes). Do NOT write the room from scratch: finish and commit your crypto vectors, then
// `git pull --rebase /work/main main`, review and harden that version (crash safety, flips, tests, formats, docs, vectors).
//! Room keys.
