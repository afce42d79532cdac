#!lua flags=allow-oom
-- Says of streams how long they are and how far they came, without what lies in them.
-- KEYS streams (STREAM)
-- Returns per stream {entries kept, entries ever added, position of the last}; {0, 0, ''} where there is none.
local out = {}
for i, stream in ipairs(streams) do
  out[i] = { 0, 0, '' }
  local info = redis.pcall('XINFO', 'STREAM', stream)
  if not info.err then
    local fields = {}
    for f = 1, #info, 2 do fields[info[f]] = info[f + 1] end
    out[i] = { fields['length'], fields['entries-added'], fields['last-generated-id'] }
  end
end
return out
