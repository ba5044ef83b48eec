// Command starved forgets to close two response bodies, which is all that its pool may
// have open, and asks for a third: go run . http://127.0.0.1:8080/
package main

import (
	"fmt"
	"net/http"
	"os"
)

func main() {
	client := &http.Client{Transport: &http.Transport{MaxConnsPerHost: 2}}
	var held []*http.Response
	for range 2 {
		resp, err := client.Get(os.Args[1])
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		held = append(held, resp) // resp.Body.Close() is what is missing
	}
	fmt.Println("ready")
	resp, err := client.Get(os.Args[1]) // waits for ever
	fmt.Println(resp, err, held)
}
