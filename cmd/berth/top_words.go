package main

import (
	"fmt"

	"github.com/berth-go/berth/kb"
)

// topWords returns what says a text of berth top in a language. A key that there is not
// says itself, which a test keeps from happening.
func topWords(l kb.Language) func(key string, args ...any) string {
	texts := topEnglish()
	if l == kb.Chinese {
		texts = topChinese()
	}
	return func(key string, args ...any) string {
		text, ok := texts[key]
		switch {
		case !ok:
			return "?" + key
		case len(args) == 0:
			return text
		}
		return fmt.Sprintf(text, args...)
	}
}

func topEnglish() map[string]string {
	return map[string]string{
		"fix-unreachable": "is the program running, and does it serve Transport.Handler at this address?",
		"fix-slow":        "the program is stopped, or too busy to answer",
		"fix-status":      "give the whole path at which the program serves Transport.Handler",
		"fix-no-report":   "give the address and the path at which the program serves Transport.Handler",
		"fix-schema":      "use the berth command of the program's version",
		"lost":            "lost",
		"back":            "is back",
		"restarted":       "%s was restarted, and is pid %d now; rates begin anew",
		"unread-at-end":   "not every program could be read at the end",

		// The screen.
		"every": "every %s", "sorted": "by %s", "filter": "filter %q", "paused": "PAUSED",
		"sort-waiting": "waiting", "sort-connections": "connections", "sort-requests": "requests", "sort-endpoint": "endpoint",
		"ago": "%s ago", "endpoints": "%s endpoints", "conns": "%s connections", "waits": "%s waiting", "rate": "%s req/s", "pid": "pid %d",
		"ago-short": "%s", "endpoints-short": "%s ep", "conns-short": "%s conn", "waits-short": "%s wait", "rate-short": "%s/s", "pid-short": "%d",
		"lost-since":  "! lost for %s, since %s: %s",
		"never-read":  "! not read yet, for %s: %s",
		"empty":       "no endpoint yet: the program has sent no request",
		"no-match":    "no endpoint matches the filter",
		"keys":        "q quit  s sort  / filter  enter open  p pause  h l columns  ? help",
		"keys-detail": "esc back  j k scroll  p pause  ? help  q quit",
		"keys-help":   "esc back  j k scroll  q quit",
		"keys-filter": "enter keep  esc clear",

		"col-endpoint": "ENDPOINT", "col-group": "GROUP", "col-leased": "LEASED", "col-idle": "IDLE", "col-dial": "DIAL", "col-drain": "DRAIN",
		"col-use": "USE", "col-limit": "LIMIT", "col-wait": "WAIT", "col-oldest": "OLDEST", "col-rate": "REQ/S", "col-reuse": "REUSE",
		"col-p99": "P99 WAIT", "col-fail": "FAIL/S", "col-ports": "PORTS", "col-why": "WHY",

		// An endpoint.
		"gone":        "the endpoint is gone: nobody has used it for minutes",
		"state":       "%d leased, %d idle, %d dialing, %d draining; limit %s",
		"waiting-now": "%d requests wait, the oldest for %s",
		"starved":     "Starved", "advice": "Advice", "now": "Now", "minute": "Last minute", "leases": "Leases", "closes": "Closed", "leaks": "Leaks", "policy": "Policy", "failed": "Failed",
		"peak":     "peak %s",
		"leases-n": "Leases, longest first (%d)",
		"lease-no": "none", "held": "HELD", "unread": "UNREAD", "phase": "PHASE", "request": "REQUEST", "site": "CALL SITE",
		"by-us": "by us first %d, by the server %d",
		"leak":  "%d unread, %d forgotten: %s", "site-none": "call site not known",
		"suspects": "bodies unread now %d, ever %d; forgotten %d",
		"set-by":   "by %s", "no-value": "none",
		"spark-rate": "requests/s", "spark-wait": "waiting", "spark-conns": "connections",
		"rates": "%s req/s, reuse %s, p99 wait %s, %s failures/s, ports %s",

		"help": `KEYS
  q, Ctrl-C   quit
  j k ↑ ↓     choose; also PgUp PgDn Home End
  enter, esc  open an endpoint, and back
  s           next order; w waiting, c connections, r requests, e endpoint
  /           filter by a part of the name or group; esc clears it
  p           pause the picture; reading goes on
  h l ← →     scroll the columns
  ?           this page

COLUMNS
  !  ~        requests wait; near a limit (80%), bodies unread, failures,
              or requests that wait for a dial
  LEASED IDLE connections with a request, and kept for the next
  DIAL DRAIN  being opened, and ending
  USE         █ leased ▒ dialing, draining ░ idle · free, of LIMIT
  WAIT OLDEST requests without a connection, and since when the oldest is
  REQ/S       requests that got a connection
  REUSE       share of them on a connection that was open
  P99 WAIT    upper bound for 99% of the waits that ended
  FAIL/S      dials that failed, and requests that got no connection
  PORTS       share of the ports to its addresses that is taken
  WHY         what the waiting requests wait for

Rates are differences between the last two reports; - is no number.`,
	}
}

func topChinese() map[string]string {
	return map[string]string{
		"fix-unreachable": "程序在运行吗？它在这个地址提供 Transport.Handler 吗？",
		"fix-slow":        "程序停住了，或忙得无法应答",
		"fix-status":      "请给出程序提供 Transport.Handler 的完整路径",
		"fix-no-report":   "请给出程序提供 Transport.Handler 的地址和路径",
		"fix-schema":      "请使用与程序版本相同的 berth 命令",
		"lost":            "失去联系",
		"back":            "已恢复",
		"restarted":       "%s 已重启，现为进程 %d；速率重新计算",
		"unread-at-end":   "结束时有程序读不到",

		"every": "每 %s", "sorted": "按%s排序", "filter": "筛选 %q", "paused": "已暂停",
		"sort-waiting": "等待", "sort-connections": "连接", "sort-requests": "请求", "sort-endpoint": "端点",
		"ago": "%s 前", "endpoints": "%s 个端点", "conns": "%s 个连接", "waits": "%s 个等待", "rate": "%s 请求/秒", "pid": "进程 %d",
		"ago-short": "%s", "endpoints-short": "%s 端点", "conns-short": "%s 连接", "waits-short": "%s 等待", "rate-short": "%s/秒", "pid-short": "%d",
		"lost-since":  "! 已失去联系 %s，自 %s 起：%s",
		"never-read":  "! 还没读到，已 %s：%s",
		"empty":       "还没有端点：程序尚未发出请求",
		"no-match":    "没有端点符合筛选",
		"keys":        "q 退出  s 排序  / 筛选  enter 打开  p 暂停  h l 列  ? 帮助",
		"keys-detail": "esc 返回  j k 滚动  p 暂停  ? 帮助  q 退出",
		"keys-help":   "esc 返回  j k 滚动  q 退出",
		"keys-filter": "enter 保留  esc 清除",

		"col-endpoint": "端点", "col-group": "组", "col-leased": "占用", "col-idle": "空闲", "col-dial": "拨号", "col-drain": "排空",
		"col-use": "用量", "col-limit": "上限", "col-wait": "等待", "col-oldest": "最久", "col-rate": "请求/秒", "col-reuse": "复用",
		"col-p99": "P99 等待", "col-fail": "失败/秒", "col-ports": "端口", "col-why": "原因",

		"gone":        "端点已不在：几分钟内没有人用它",
		"state":       "占用 %d，空闲 %d，拨号 %d，排空 %d；上限 %s",
		"waiting-now": "%d 个请求在等待，最久的已等 %s",
		"starved":     "缺连接", "advice": "建议", "now": "当前", "minute": "最近一分钟", "leases": "租约", "closes": "已关闭", "leaks": "泄漏", "policy": "策略", "failed": "失败",
		"peak":     "峰值 %s",
		"leases-n": "租约，持有最久的在前（%d）",
		"lease-no": "没有", "held": "持有", "unread": "未读", "phase": "阶段", "request": "请求", "site": "调用处",
		"by-us": "本方先关 %d，服务器先关 %d",
		"leak":  "未读 %d，遗忘 %d：%s", "site-none": "调用处未知",
		"suspects": "当前未读的响应体 %d，累计 %d；遗忘 %d",
		"set-by":   "由 %s 设定", "no-value": "无",
		"spark-rate": "请求/秒", "spark-wait": "等待", "spark-conns": "连接",
		"rates": "%s 请求/秒，复用 %s，P99 等待 %s，失败 %s/秒，端口 %s",

		"help": `按键
  q, Ctrl-C   退出
  j k ↑ ↓     选择；也可用 PgUp PgDn Home End
  enter, esc  打开端点，返回
  s           换一种排序；w 等待，c 连接，r 请求，e 端点
  /           按名称或组的一部分筛选；esc 清除
  p           暂停画面；读取不停
  h l ← →     左右滚动各列
  ?           本页

各列
  !  ~        有请求在等待；接近上限（80%），响应体未读，有失败，
              或在等拨号
  占用 空闲   有请求的连接，留给下一个请求的连接
  拨号 排空   正在打开的连接，正在结束的连接
  用量        █ 占用 ▒ 拨号、排空 ░ 空闲 · 剩余，相对上限
  等待 最久   现在没有连接的请求，其中最久的已等多久
  请求/秒     得到连接的请求
  复用        其中用上已打开连接的比例
  P99 等待    已结束的等待中 99% 的上界
  失败/秒     失败的拨号，和没有得到连接的请求
  端口        通往其地址的端口已占的比例
  原因        等待的请求在等什么

速率是最近两次报告之差；- 表示没有数值。`,
	}
}
