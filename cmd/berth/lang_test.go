package main

import (
	"testing"

	"github.com/berth-go/berth/kb"
)

func TestLanguageIsChosen(t *testing.T) {
	for _, tc := range []struct {
		flag string
		env  [4]string // BERTH_LANG, LC_ALL, LC_MESSAGES, LANG
		want kb.Language
	}{
		{"", [4]string{}, "en"},
		{"zh", [4]string{"en"}, "zh"},
		{"", [4]string{"zh", "en_US.UTF-8"}, "zh"},
		{"", [4]string{"", "zh_CN.UTF-8", "en_US.UTF-8"}, "zh"},
		{"", [4]string{"", "", "zh_TW", "en_US"}, "zh"},
		{"", [4]string{"", "", "", "zh_Hans_SG@x"}, "zh"},
		{"", [4]string{"", "C.UTF-8", "", "zh_CN.UTF-8"}, "en"},
		{"", [4]string{"", "POSIX"}, "en"},
		{"", [4]string{"", "de_DE.UTF-8"}, "en"},
		{"", [4]string{"nonsense here"}, "en"},
	} {
		env := map[string]string{}
		for i, name := range []string{"BERTH_LANG", "LC_ALL", "LC_MESSAGES", "LANG"} {
			env[name] = tc.env[i]
		}
		got, err := languageOf(tc.flag, func(name string) string { return env[name] })
		if err != nil || got != tc.want {
			t.Errorf("%+v: %q, %v", tc, got, err)
		}
	}
}
