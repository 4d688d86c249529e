//! The examples of docs/SQL.md: every block of SQL is planned.

use flowstone_sql::plan_file;
use std::path::Path;

#[test]
fn every_example_is_planned() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/SQL.md");
    let text = std::fs::read_to_string(path).unwrap();
    let mut streams = String::new();
    let mut count = 0;
    for block in text.split("```sql\n").skip(1) {
        let block = block.split("```").next().unwrap();
        count += 1;
        // Streams of earlier blocks are known in later ones.
        let all = format!("{streams}\n{block}");
        if let Err(error) = plan_file(&all) {
            panic!("{error}\n{block}");
        }
        let own = flowstone_sql::statement::parse(block).unwrap();
        for parsed in own {
            if let flowstone_sql::Statement::CreateStream(_) = parsed.statement {
                streams.push_str(&parsed.text);
                streams.push_str(";\n");
            }
        }
    }
    assert!(count > 5, "{count} examples");
}
