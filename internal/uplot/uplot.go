// Package uplot has the files of uPlot 1.6.32, which draws line charts on a canvas, as its
// authors publish them (the npm registry's uplot), and embeds them. The lab's page and the
// live page of a Transport draw with it.
package uplot

import _ "embed"

// Version is uPlot's.
const Version = "1.6.32"

var (
	// Script defines uPlot as a global name.
	//
	//go:embed uPlot.iife.min.js
	Script string

	// Style is the sheet that Script's elements need.
	//
	//go:embed uPlot.min.css
	Style string

	// License is the text that goes with both.
	//
	//go:embed LICENSE
	License string
)
