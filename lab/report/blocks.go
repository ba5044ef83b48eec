package report

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"html/template"
	"strings"

	"github.com/berth-go/berth/internal/uplot"
)

// A colour has one value on light ground and one on dark. The hues are told apart by
// people who are colour-blind, after Okabe and Ito; what a hue alone would say is
// written, too, or drawn with other dashes.
type colour struct{ name, light, dark string }

// palette is every colour of the page.
func palette() []colour {
	return []colour{
		{"bg", "#ffffff", "#14171c"},
		{"panel", "#f5f6f8", "#1c2027"},
		{"text", "#1b1f24", "#e4e7ec"},
		{"muted", "#586170", "#9ca5b3"},
		{"line", "#d5dae1", "#343b46"},
		{"grid", "#e7eaee", "#272d36"},
		{"link", "#005fa3", "#6db9f2"},
		{"good", "#00704f", "#46c99a"},
		{"bad", "#b3261e", "#ff8a80"},
		// Who: Berth is blue on every plot, net/http orange.
		{"berth", "#0067ab", "#56b4e9"},
		{"nethttp", "#c25400", "#f2a04e"},
		{"documented", "#6b4fa0", "#b9a3ea"},
		{"other", "#6a7280", "#a3acba"},
		// States of a connection.
		{"established", "#00805c", "#35c796"},
		{"time-wait", "#b04f8b", "#e594c4"},
		{"syn", "#6a7280", "#a3acba"},
		{"fin-wait", "#2a6fbb", "#79b8f0"},
		{"close-wait", "#a86b00", "#e0b23c"},
		{"last-ack", "#8a5a44", "#c99b84"},
		{"closed", "#737c8a", "#8a94a3"},
	}
}

// sharp has the charts drawn with at least two dots to a pixel: paper shows them. It runs
// before uPlot, which reads the ratio as it is loaded.
const sharp = `
(() => {
  const own = Object.getOwnPropertyDescriptor(window, "devicePixelRatio");
  if (own && own.get && own.configurable) {
    Object.defineProperty(window, "devicePixelRatio", { configurable: true, get: () => Math.max(2, own.get.call(window)) });
  }
})();
`

// blocks returns the style and the scripts of the page, and the policy that lets the
// browser run these alone and fetch nothing.
func blocks() (style, scripts template.HTML, policy string) {
	css := "\n" + uplot.Style + "\n" + variables() + pageCSS
	var b strings.Builder
	var hashes []string
	for _, js := range []string{sharp, "\n" + uplot.Script + "\n", "\n" + pageJS} {
		sum := sha256.Sum256([]byte(js))
		hashes = append(hashes, "'sha256-"+base64.StdEncoding.EncodeToString(sum[:])+"'")
		fmt.Fprintf(&b, "<script>%s</script>\n", js)
	}
	policy = "default-src 'none'; style-src 'unsafe-inline'; script-src " + strings.Join(hashes, " ")
	return template.HTML("<style>" + css + "</style>"), template.HTML(b.String()), policy
}

// variables writes the palette as CSS: light, dark where the system or the reader asks
// for it, and light on paper.
func variables() string {
	set := func(dark bool) string {
		var b strings.Builder
		for _, c := range palette() {
			value := c.light
			if dark {
				value = c.dark
			}
			fmt.Fprintf(&b, "--%s:%s;", c.name, value)
		}
		return b.String()
	}
	return ":root{color-scheme:light;" + set(false) + "}\n" +
		"@media screen and (prefers-color-scheme:dark){:root:not([data-theme=light]){color-scheme:dark;" + set(true) + "}}\n" +
		"@media screen{:root[data-theme=dark]{color-scheme:dark;" + set(true) + "}}\n"
}
