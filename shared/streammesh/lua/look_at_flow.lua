#!lua flags=allow-oom
-- Answers how the keys of one subscription stand, those first of which tasks wait, then those of which tasks only run.
-- KEYS line (ZSET), places (ZSET), ready (ZSET), slow (ZSET)
-- ARGS part ('line' or 'places'), begin (member to look on from), limit (keys), looks (members that are looked at)
-- Returns {part, where to look on ('' at the end), then per key: key, waiting, running, its turn among those that could
-- start (0 is next, '' not in turn), when it may start (ms, '' now)}.
--#include _time.lua
local out, looked = { part, '' }, 0
local function count(of, key) return redis.call('ZLEXCOUNT', of, '[' .. key .. '\0', '(' .. key .. '\1') end
while #out < 2 + 5 * limit and looked < looks do
  looked = looked + 1
  local member = redis.call('ZRANGEBYLEX', part == 'line' and line or places, begin, '+', 'LIMIT', 0, 1)[1]
  if member then
    local key = string.match(member, '^(%Z*)%z')
    if key then
      local waiting = count(line, key)
      if part == 'line' or waiting == 0 then
        local at, turn = redis.call('ZSCORE', slow, key), redis.call('ZRANK', ready, key)
        local n = #out
        out[n + 1], out[n + 2], out[n + 3] = key, waiting, count(places, key)
        out[n + 4], out[n + 5] = turn or '', at and digits(math.ceil(tonumber(at))) or ''
      end
      begin = '(' .. key .. '\1'
    else
      begin = '(' .. member
    end
  elseif part == 'line' then
    part, begin = 'places', '-'
  else
    return out
  end
end
out[1], out[2] = part, begin
return out
