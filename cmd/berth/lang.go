package main

import (
	"os"
	"strings"

	"golang.org/x/text/language"
)

// langFrom returns "en" or "zh": of the flag, else of the first variable of the
// environment that is set.
func langFrom(flag string) string {
	want := flag
	for _, name := range []string{"BERTH_LANG", "LC_ALL", "LC_MESSAGES", "LANG"} {
		if want == "" {
			want = os.Getenv(name)
		}
	}
	// zh_CN.UTF-8@pinyin
	want, _, _ = strings.Cut(want, ".")
	want, _, _ = strings.Cut(want, "@")
	tag, err := language.Parse(want)
	if err != nil {
		return "en"
	}
	if _, i, _ := language.NewMatcher([]language.Tag{language.English, language.Chinese}).Match(tag); i == 1 {
		return "zh"
	}
	return "en"
}
