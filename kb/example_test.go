package kb_test

import (
	"fmt"

	"github.com/berth-go/berth/kb"
)

func ExampleMatch() {
	for _, hit := range kb.Match("dial tcp 10.0.0.7:443: connect: cannot assign requested address") {
		fmt.Println(hit.Entry.Code, hit.Weight(), hit.Entry.Title.EN)
	}
	// Output: BERTH1004 sure Ephemeral ports are exhausted
}
