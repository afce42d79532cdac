#!lua flags=allow-oom
-- Says of streams how long they are and how far they came, without what lies in them.
-- KEYS[1], KEYS[2], …: streams (STREAM)
-- Returns per key {entries kept, entries ever added, position of the last}; {0, 0, ''} where there is no stream.
local out = {}
for i, key in ipairs(KEYS) do
  out[i] = { 0, 0, '' }
  local info = redis.pcall('XINFO', 'STREAM', key)
  if not info.err then
    local fields = {}
    for f = 1, #info, 2 do fields[info[f]] = info[f + 1] end
    out[i] = { fields['length'], fields['entries-added'], fields['last-generated-id'] }
  end
end
return out
