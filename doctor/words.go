package doctor

import "fmt"

// words returns what says a text in a language, "en" or "zh". A key that there is not
// says itself, which a test keeps from happening.
func words(lang string) func(key string, args ...any) string {
	texts := english()
	if lang == "zh" {
		texts = chinese()
	}
	return func(key string, args ...any) string {
		text, ok := texts[key]
		if !ok {
			return "?" + key
		}
		if len(args) == 0 {
			return text
		}
		return fmt.Sprintf(text, args...)
	}
}
