#!lua flags=allow-oom
-- Says how many entries streams of queues have, how many of them workers hold, and since when the first of the rest waits.
-- KEYS streams (STREAM), indexes (ZSET, of dead letters)
-- ARGS group (of the workers)
-- Returns {per stream {entries, held, position of the first that no worker was given, or ''}, per index how many it has}.
-- What is no stream, or no sorted set, counts as empty.
local function number(answer)
  return type(answer) == 'number' and answer or 0
end

local function state(stream)
  local length = number(redis.pcall('XLEN', stream))
  if length == 0 then return { 0, 0, '' } end
  local held, given = 0, '0-0'
  for _, about in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
    local fields = {}
    for f = 1, #about, 2 do fields[about[f]] = about[f + 1] end
    if fields['name'] == group then held, given = fields['pending'], fields['last-delivered-id'] end
  end
  local first = held < length and redis.call('XRANGE', stream, '(' .. given, '+', 'COUNT', 1)[1]
  return { length, held, first and first[1] or '' }
end

local queues, dead = {}, {}
for i, stream in ipairs(streams) do queues[i] = state(stream) end
for i, index in ipairs(indexes) do dead[i] = number(redis.pcall('ZCARD', index)) end
return { queues, dead }
