package pasban_test

// A receipt of a synthetic look and the key of its ledger, as they are handed out.
const (
	exampleKey = "land.example/ledger+e5b1bc0e+AaAhf7Ls+dC+DKKN9S99CpCPV1r+VUew5cmDSXRkh8aa"

	exampleReceipt = `{
	"schema": "pasban.receipt.v1",
	"origin": "land.example/ledger",
	"index": 1,
	"kind": "look",
	"salt": "ZdKlsDoOhfeQn9pMlG5IMt1NmrT3MM54/WYBDh9+hCs=",
	"body": {
		"action": "view",
		"agency": "land-records",
		"fields": [
			"buyer_name",
			"price"
		],
		"id": "0ab1908d9329e7fe5391c06f8aaeb34b",
		"kind": "look",
		"mode": "person",
		"outcome": "allow",
		"purpose": "mutation",
		"resource": "LT-2026-000001",
		"restricted": "YYUWmH-KstwBrKDtrne9xCLKqg7AeIr7iv7o-o8on44",
		"service": "land-transfer",
		"subject": "61101-1234567-1",
		"time": "2026-11-23T15:15:00.123Z",
		"v": 1,
		"who": {
			"kind": "person",
			"role": "officer",
			"staff": "032"
		}
	},
	"proof": [
		"G7l9zCFjXUfiZj79/QoXRobZjdcBNS3SzQbotD/T0wU=",
		"qze6NNHf4pAV3nF6bVdkqPsCnDp6D1tkuTtUNRiFv3w="
	],
	"checkpoint": "land.example/ledger\n3\nXNaHKg9Zcou9nY6RCBZs+mUGNyxK4sHSoydqq2ZOKnE=\n\n— land.example/ledger 5bG8DmR2oh/xXwsMzXxaqgPFfvZVxIjAi3HlCENDaFUXTMzso2f0xjpUZ7P6X8jNWtn+enYjuKC5mhN75bzrY9RIOAs=\n"
}`
)
