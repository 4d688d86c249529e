//! Reads a topic as a consumer group, prints the records and commits what was read.

use flowstone_client::{Client, Error};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let url = std::env::var("FLOWSTONE_URL").unwrap_or("tcp://127.0.0.1:7400".to_owned());
    let client = Client::connect(&url).await?;
    let mut consumer = client.consumer("orders").group("kitchen").open().await?;
    loop {
        let records = consumer.next_batch().await?;
        for record in &records {
            let value = String::from_utf8_lossy(record.value.unwrap_or_default());
            println!("{}/{}: {value}", records.partition(), record.offset);
        }
        consumer.commit().await?;
    }
}
