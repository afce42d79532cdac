-- The server's clock, so that the clocks of workers do not matter.
local function now_ms()
  local t = redis.call('TIME')
  return tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
end

-- A number as digits only; Lua would write large ones as 1.7e+12.
local function digits(n)
  return string.format('%.0f', n)
end
