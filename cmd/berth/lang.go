package main

import (
	"fmt"
	"strings"

	"golang.org/x/text/language"

	"github.com/berth-go/berth/kb"
)

// languageOf chooses the language of what people read: by the flag, else by the
// environment, else English. Other languages than those that there are, are an error in
// the flag and nothing else.
func languageOf(flag string, getenv func(string) string) (kb.Language, error) {
	all := []kb.Language{kb.English, kb.Chinese}
	m := language.NewMatcher([]language.Tag{language.English, language.SimplifiedChinese})
	choose := func(name string) (kb.Language, bool) {
		name, _, _ = strings.Cut(name, ".") // zh_CN.UTF-8
		name, _, _ = strings.Cut(name, "@")
		tag, err := language.Parse(name)
		if err != nil {
			return "", false
		}
		_, i, confidence := m.Match(tag)
		return all[i], confidence > language.No
	}
	if flag != "" {
		if l, ok := choose(flag); ok {
			return l, nil
		}
		return "", fmt.Errorf("--lang %q: there are en and zh", flag)
	}
	for _, name := range []string{"BERTH_LANG", "LC_ALL", "LC_MESSAGES", "LANG"} {
		if v := getenv(name); v != "" {
			if l, ok := choose(v); ok {
				return l, nil
			}
			break // the first that is set decides, as in setlocale(3)
		}
	}
	return kb.English, nil
}
