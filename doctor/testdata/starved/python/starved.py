"""Keeps two urllib3 responses unread, which is all that its pool may have open, and asks
for a third: python3 starved.py http://127.0.0.1:8080/"""

import sys

import urllib3

http = urllib3.PoolManager(maxsize=2, block=True)
held = [http.request("GET", sys.argv[1], preload_content=False) for _ in range(2)]
# held[i].read() and held[i].release_conn() are what is missing
print("ready", flush=True)
http.request("GET", sys.argv[1])  # waits for ever
