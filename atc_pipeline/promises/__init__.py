"""What must hold on every day, whatever the portfolio: each promise finds the rows that break it."""
