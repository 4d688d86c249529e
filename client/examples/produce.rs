//! Sends a few records and prints where they were stored.

use flowstone_client::{Client, Error, Record};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let url = std::env::var("FLOWSTONE_URL").unwrap_or("tcp://127.0.0.1:7400".to_owned());
    let client = Client::connect(&url).await?;
    let producer = client.producer("orders").open().await?;
    for number in 0..10 {
        let record = Record::new(format!("order {number}")).key(format!("table {}", number % 3));
        let receipt = producer.send(record).await?;
        println!("partition {} offset {}", receipt.partition, receipt.offset);
    }
    producer.close().await
}
