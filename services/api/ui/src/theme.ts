// Dark and light: as the system says, unless a person chose.
import { signal } from "@preact/signals";

export type Theme = "system" | "light" | "dark";

const STORED = "streammesh.theme";
const stored = localStorage.getItem(STORED);
export const theme = signal<Theme>(stored === "light" || stored === "dark" ? stored : "system");

export function applyTheme(): void {
  if (theme.value === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme.value;
}

export function nextTheme(): void {
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const shown = theme.value === "system" ? (dark ? "dark" : "light") : theme.value;
  theme.value = shown === "dark" ? "light" : "dark";
  localStorage.setItem(STORED, theme.value);
  applyTheme();
}
